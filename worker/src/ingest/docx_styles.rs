//! Which styles of a Word document are headings.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::docx::{attribute, local};

/// Heading level by style id.
#[derive(Default)]
pub(super) struct Styles(HashMap<String, u8>);

#[derive(Default)]
struct Style {
    level: Option<u8>,
    based_on: Option<String>,
}

impl Styles {
    /// Reads as much of `styles.xml` as makes sense: without it a document has text all the same.
    pub(super) fn read(xml: &str) -> Self {
        let mut styles: HashMap<String, Style> = HashMap::new();
        let mut id = String::new();
        let mut reader = Reader::from_str(xml);
        while let Ok(event) = reader.read_event() {
            let start = match &event {
                Event::Start(start) | Event::Empty(start) => start,
                Event::Eof => break,
                _ => continue,
            };
            let value = || attribute(start, "val");
            match local(start) {
                "style" => {
                    id = attribute(start, "styleId").unwrap_or_default();
                    styles.insert(id.clone(), Style::default());
                }
                "name" => {
                    set(&mut styles, &id, |style| style.level = value().as_deref().and_then(level_of_name))
                }
                "basedOn" => set(&mut styles, &id, |style| style.based_on = value()),
                "outlineLvl" => set(&mut styles, &id, |style| {
                    style.level = style.level.or_else(|| outline_level(value().as_deref()));
                }),
                _ => {}
            }
        }
        let levels = styles.keys().filter_map(|id| Some((id.clone(), inherited(&styles, id)?))).collect();
        Self(levels)
    }

    /// Level of paragraphs in this style; `None` when it is no heading.
    pub(super) fn level(&self, id: &str) -> Option<u8> {
        self.0.get(id).copied()
    }
}

fn set(styles: &mut HashMap<String, Style>, id: &str, change: impl FnOnce(&mut Style)) {
    if let Some(style) = styles.get_mut(id) {
        change(style);
    }
}

/// Word keeps the English names of its own styles in every language.
fn level_of_name(name: &str) -> Option<u8> {
    let name = name.to_lowercase();
    if name == "title" {
        return Some(1);
    }
    let level = name.strip_prefix("heading ").or_else(|| name.strip_prefix("标题 "))?;
    level.trim().parse().ok().filter(|level| (1..=9).contains(level)).map(|level: u8| level.min(6))
}

/// Outline levels count from 0; 9 is body text.
pub(super) fn outline_level(value: Option<&str>) -> Option<u8> {
    value?.parse().ok().filter(|&level: &u8| level < 9).map(|level| (level + 1).min(6))
}

fn inherited(styles: &HashMap<String, Style>, id: &str) -> Option<u8> {
    let mut style = styles.get(id)?;
    // Word allows far fewer generations; a loop ends here too.
    for _ in 0..16 {
        if style.level.is_some() {
            return style.level;
        }
        style = styles.get(style.based_on.as_deref()?)?;
    }
    None
}
