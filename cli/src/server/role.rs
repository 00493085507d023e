//! What a process does, and which parts it may do it with.

use anyhow::bail;

use crate::config::{BrokerKind, Config, IndexKind, StoreKind};

/// A serving process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Everything, with or without other processes beside it.
    Up,
    /// Serves clients.
    Api,
    /// Works on jobs.
    Worker,
    /// Runs processes that work on jobs.
    Scale,
    /// Tells KEDA how many workers there should be.
    Scaler,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Scale => "scale",
            Self::Scaler => "scaler",
        }
    }

    /// Whether clients are served.
    pub(super) fn serves(self) -> bool {
        matches!(self, Self::Up | Self::Api)
    }

    /// Whether jobs are worked on.
    pub(super) fn works(self) -> bool {
        matches!(self, Self::Up | Self::Worker)
    }

    /// How many of serving, working and supervising it does.
    pub(super) fn parts(self) -> usize {
        usize::from(self.serves()) + usize::from(self.works()) + usize::from(self == Self::Scale)
    }

    /// Fills in what depends on the role, and refuses parts that cannot keep their promises in it: an
    /// embedded one belongs to one process, but only `up` can be alone.
    pub(super) fn fit(self, config: &mut Config) -> anyhow::Result<()> {
        if self == Self::Up {
            config.index.kind.get_or_insert(IndexKind::Embedded);
            return Ok(());
        }
        config.index.kind.get_or_insert(IndexKind::None);
        let command = self.name();
        if config.store.kind == StoreKind::Embedded {
            bail!(
                "`millhand {command}` shares its jobs with other processes, but an embedded store belongs to one: \
                 set `store.kind = \"redis\"` and `store.url`, or use `millhand up`, which serves and works in one"
            );
        }
        if config.broker.kind == BrokerKind::Embedded {
            bail!(
                "`millhand {command}` shares its queue with other processes, but an embedded broker belongs to one: \
                 set `broker.kind` to \"rabbitmq\" or \"kafka\" and `broker.url`"
            );
        }
        if config.index.kind == Some(IndexKind::Embedded) {
            bail!(
                "`millhand {command}` shares its documents with other processes, but an embedded index belongs to \
                 one: set `index.kind = \"pgvector\"` and `index.url`, or `index.kind = \"none\"` for `chat` only"
            );
        }
        if self == Self::Scale {
            // It reads no documents; its workers do.
            config.index.kind = Some(IndexKind::None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(role: Role, change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        config.store.kind = StoreKind::Redis;
        config.broker.kind = BrokerKind::Kafka;
        change(&mut config);
        role.fit(&mut config).err().map(|err| err.to_string())
    }

    #[test]
    fn an_embedded_part_is_refused_where_processes_share_it() {
        for role in [Role::Api, Role::Worker, Role::Scale, Role::Scaler] {
            assert_eq!(refused(role, |_| {}), None);
            let store = refused(role, |config| config.store.kind = StoreKind::Embedded).unwrap();
            assert!(store.contains("store.kind"), "{store}");
            let broker = refused(role, |config| config.broker.kind = BrokerKind::Embedded).unwrap();
            assert!(broker.contains("broker.kind"), "{broker}");
            let index = refused(role, |config| config.index.kind = Some(IndexKind::Embedded)).unwrap();
            assert!(index.contains("index.kind"), "{index}");
        }
        assert_eq!(refused(Role::Up, |config| *config = Config::default()), None);
    }

    #[test]
    fn documents_are_served_by_default_where_they_can_be() {
        let index = |role: Role| {
            let mut config = Config::default();
            config.store.kind = StoreKind::Redis;
            config.broker.kind = BrokerKind::Rabbitmq;
            role.fit(&mut config).unwrap();
            config.index.kind
        };
        assert_eq!(index(Role::Up), Some(IndexKind::Embedded));
        assert_eq!(index(Role::Api), Some(IndexKind::None));
    }
}
