//! Words that carry grammar rather than meaning, per language, as [`super::fold`] writes them.
//! Words with which one asks are among them: a question is not about "what".

use std::collections::HashMap;
use std::sync::LazyLock;

use whatlang::Lang;

/// Set of languages, one bit each, in the order of [`LISTS`].
type Languages = u32;

static WORDS: LazyLock<HashMap<&'static str, Languages>> = LazyLock::new(|| {
    let mut words = HashMap::new();
    for (bit, (_, list)) in LISTS.iter().enumerate() {
        for word in list.split_ascii_whitespace() {
            *words.entry(word).or_default() |= 1 << bit;
        }
    }
    words
});

/// Whether the folded `word` is a stop word of `lang`.
pub(super) fn is_stop_word(word: &str, lang: Lang) -> bool {
    let bit = LISTS.iter().position(|(listed, _)| *listed == lang);
    bit.is_some_and(|bit| WORDS.get(word).is_some_and(|languages| languages >> bit & 1 == 1))
}

/// The language whose stop words occur most among these folded words; none when two are level.
pub(super) fn vote<'a>(words: impl Iterator<Item = &'a str>) -> Option<Lang> {
    let mut counts = [0u32; LISTS.len()];
    for languages in words.filter_map(|word| WORDS.get(word)) {
        for (bit, count) in counts.iter_mut().enumerate() {
            *count += languages >> bit & 1;
        }
    }
    let best = *counts.iter().max()?;
    let mut leaders = counts.iter().zip(LISTS).filter(|(count, _)| **count == best);
    match (best, leaders.next(), leaders.next()) {
        (1.., Some((_, (lang, _))), None) => Some(*lang),
        _ => None,
    }
}

const LISTS: &[(Lang, &str)] = &[
    (
        Lang::Eng,
        "a about above after again all also am an and any are as at be because been before being below \
         between both but by can could did do does doing don't down during each few for from further had has \
         have having he her here hers him his how i if in into is isn't it it's its itself just me more most \
         my no nor not of off on once only or other our ours out over own please same shall she should so \
         some such tell than that the their theirs them then there these they this those through to too \
         under until up us very was we were what what's when where which while who whom whose why will with \
         would you your yours",
    ),
    (
        Lang::Deu,
        "aber alle allem allen aller alles als also am an andere anderen auch auf aus bei beim bin bis bist da \
         damit dann das dass dein deine dem den denn der des dessen die dies diese diesem diesen dieser \
         dieses doch dort du durch ein eine einem einen einer eines er es euch euer für gibt hab habe haben \
         hat hatte hatten hier ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jedem jeden \
         jeder jedes kann kein keine keinen können könnte man mein meine mich mir mit muss nach nicht noch \
         nur ob oder ohne sehr sein seine seinem seinen seiner seit sich sie sind so soll sollte sondern \
         über um und uns unser unter viel vom von vor wann war waren warum was weil welche welchem welchen \
         welcher welches wem wen wenn wer werden wie wieso wieviel wir wird wo woher wohin wurde wurden zu \
         zum zur zwischen",
    ),
    (
        Lang::Fra,
        "a ai au aucun aussi autre aux avec avoir c car ce cela celle celui ces cet cette ceux chaque ci comme \
         comment d dans de depuis des donc dont du elle elles en entre es est et étaient était être eu eux \
         fait faut il ils j je l la le les leur leurs lui m ma mais me même mes moi mon n ne ni nos notre \
         nous on ont ou où par pas peut plus pour pourquoi qu quand que quel quelle quelles quels qui quoi s \
         sa sans se ses si son sont sous sur t ta te tes toi ton tous tout toute toutes tu un une vos votre \
         vous y",
    ),
    (
        Lang::Spa,
        "a al algo alguna alguno algunos ante antes aquel aquella así aún cada como cómo con contra cual cuál \
         cuales cuáles cuando cuándo cuanto cuánto cuántos de del desde donde dónde dos e el él ella ellas \
         ellos en entre era eran eres es esa ese eso esta está están estas este esto estos fue fueron ha han \
         hasta hay he la las le les lo los más me mi mis muy nada ni no nos nosotros nuestra nuestro o os \
         otra otro para pero poco por porque por qué que qué quien quién quienes se sea ser si sí sin sobre \
         son su sus también tan te tiene tienen todo todos tu tus un una uno unos usted ustedes y ya yo",
    ),
    (
        Lang::Ita,
        "a ad agli ai al alla alle allo anche avere c che chi ci cioè come con cosa cui d da dagli dai dal \
         dalla dalle dallo degli dei del dell della delle dello di dove e è ed era erano essere fra gli ha \
         hanno ho i il in io l la le lei li lo loro lui ma mi mia mio ne nei nel nella nelle nello noi non \
         nostro o ogni per perché più qual quale quali quando quanti quanto quella quelle quelli quello \
         questa queste questi questo se sei si sia siamo sono su sua sue sugli sui sul sulla suo suoi tra \
         tu tutti tutto un una uno vi voi",
    ),
    (
        Lang::Por,
        "a à ao aos aquela aquele aqui as às até com como da das de dela dele deles depois do dos e é ela elas \
         ele eles em entre era eram essa esse esta está estão este eu foi foram há isso isto já lhe mais mas \
         me mesmo meu minha muito na não nas nem no nos nós nossa nosso num numa o onde os ou para pela pelas \
         pelo pelos por porque qual quais quando quanto quantos que quê quem se sem ser seu seus só sua suas \
         também te tem têm um uma você vocês",
    ),
    (
        Lang::Nld,
        "aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een en er \
         ge geen had hadden heb hebben heeft hem het hier hij hoe hoeveel hun iets ik in is ja je kan kunnen \
         maar me meer men met mij mijn moet na naar niet niets nog nu of om omdat onder ons ook op over te \
         tegen tot uit van veel voor waar waarom wanneer was wat we welke werd wie wij wil worden wordt zal \
         ze zei zich zij zijn zo zonder zou",
    ),
    (
        Lang::Swe,
        "alla allt att av bli blir blev dá då de dem den denna deras dess dessa det detta dig din dina ditt du \
         efter ej eller en er ett från för ha hade han hans har hennes hon honom hur hur i icke inom inte ja \
         jag kan man med mellan men mig min mina mitt mot mycket ni nu när någon något några och om oss på \
         samma sedan sig sin sina sitta själv ska skulle som till under upp ut utan vad var varför vara vart \
         vi vid vilka vilken vilket är åt över",
    ),
    (
        Lang::Dan,
        "af alle at blev blive bliver da de dem den denne der deres det dette dig din disse dog du efter eller \
         en end er et for fra ham han hans har havde have hende hendes her hos hun hvad hvem hvilken hvis \
         hvor hvordan hvorfor hvornår i ikke ind jeg jer kan man med meget mig min mine mod ned noget nogle \
         nu når og også om op os over på sig sin skal skulle som så til ud under var vi vil være",
    ),
    (
        Lang::Nob,
        "alle at av bare ble bli blir da de dem den denne der deres det dette din disse du eller en er et \
         etter for fra ha hadde han hans har hennes her hun hva hvem hvilken hvis hvor hvordan hvorfor i ikke \
         inn jeg kan man med meg mellom men mer min mot mye ned noe noen nå når og også om opp oss over på \
         seg sin skal skulle som så til ut uten var ved vi vil være",
    ),
    (
        Lang::Rus,
        "а без более бы был была были было быть в вам вас ведь во вот все всего всех вы где да для до его ее \
         её если есть еще ещё же за зачем и из или им их к как какая какие какой каких когда кого который \
         которые кто ли лучше между меня мне можно мой мы на над надо нас не него нее нет ни них но ну о об \
         он она они оно от очень по под почему при про с сам свою себя сколько со так также такой там тебя \
         то тоже того только том ты у уже хоть чего чем что чтобы эта эти это этого этой этом этот я",
    ),
    (
        Lang::Ukr,
        "а або але без би був була були було бути в вам вас він вона вони воно все всі де для до є з за \
         й його із і її їх як яка яке який які коли кого котрий ми на над нас не ні нам про при під по \
         після та так також там то того тобто у хто це цей ця ці через чи чого чому що щоб я",
    ),
    (
        Lang::Pol,
        "a aby ale bo był była było były być by co czy czyli dla do gdy gdzie go i ich ile im ja jak jaka \
         jaki jakie jako je jego jej jest jeszcze już kiedy kto która które który ma mi mnie na nad nie nim \
         o od on ona one oni oraz po pod przez przy się są ta tak także tam te tego tej ten to tu tylko tym \
         u w we więc wszystko z za ze że",
    ),
    (
        Lang::Tur,
        "acaba ama ancak bazı belki ben bir biri biz bu bunu çok çünkü da daha de değil diye en gibi hangi \
         hem hep her hiç için ile ise kaç kadar ki kim kime mi mı mu mü nasıl ne neden nerede nereye niçin \
         niye o olan olarak olduğu onlar sen siz şey şu ve veya ya yani",
    ),
    (
        Lang::Cmn,
        "的 地 得 了 着 过 和 与 與 及 或 是 在 有 我 你 您 他 她 它 我们 你们 他们 它们 我們 你們 他們 这 那 這 \
         这个 那个 這個 那個 这些 那些 這些 吗 嗎 呢 吧 啊 么 麼 什么 什麼 甚麼 怎么 怎麼 怎样 怎樣 怎么样 \
         如何 哪 哪里 哪裡 哪儿 哪个 哪個 哪些 谁 誰 为什么 為什麼 为何 為何 多少 几 幾 个 個 一个 一個 之 \
         而 且 但 但是 因为 因為 所以 如果 则 則 被 把 对 對 对于 關於 关于 从 從 到 向 于 於 以 由 也 都 \
         就 还 還 很 太 更 最 又 再 不 没 沒 没有 請 请 请问 請問 可以 能 能否 会 會 要 应该 應該 是否 是不是 \
         有没有 有哪些 其 该 該 此 等 所 里 裡 中 上 下 吗",
    ),
    (
        Lang::Jpn,
        "の に は を た が で て と し れ さ ある いる も する から な こと として い や れる など なっ ない \
         この ため その あっ よう また もの という あり まで られ なる へ か だ これ によって により おり \
         より による ず なり られる において ば なかっ なく しかし について せ だっ その後 できる それ う ので \
         なお のみ でき き つ における および いう さらに でも ら たり その他 に関する ます です ました でした \
         ません ください 何 なに なん どこ いつ だれ 誰 なぜ どう どの どれ どんな どのように いくつ いくら \
         とは ですか ますか には では",
    ),
    (
        Lang::Kor,
        "이 그 저 것 수 등 및 또는 그리고 그러나 하지만 무엇 무엇을 무엇이 무엇인가요 무엇입니까 뭐 어디 \
         어디에 어디에서 언제 누구 누가 왜 어떻게 어떤 어느 얼마 얼마나 몇 있다 있는 있습니까 있나요 \
         하는 하다 합니까 하나요 한 할 이다 입니다 인가요 입니까 되는 됩니까 되나요 대해 대한 위해",
    ),
    (
        Lang::Ara,
        "في من على إلى الى عن مع هذا هذه ذلك تلك التي الذي الذين هو هي هم كان كانت يكون أن ان إن لا ما لم \
         لن قد كل أو او ثم بين بعد قبل عند كما لكن أي اي أين متى كيف لماذا ماذا من كم هل و",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_fits_its_bit_and_every_word_is_folded() {
        assert!(LISTS.len() <= Languages::BITS as usize);
        for (lang, list) in LISTS {
            for word in list.split_ascii_whitespace() {
                assert_eq!(word, super::super::fold(word, super::super::Language(Some(*lang))), "{lang:?}");
            }
        }
    }

    #[test]
    fn stop_words_tell_the_language_of_a_short_question() {
        let vote = |text: &str| vote(text.split(' '));
        assert_eq!(vote("how do i configure the network"), Some(Lang::Eng));
        assert_eq!(vote("wie kann ich das netzwerk einrichten"), Some(Lang::Deu));
        assert_eq!(vote("comment configurer le réseau dans les paquets"), Some(Lang::Fra));
        assert_eq!(vote("kubernetes"), None);
    }
}
