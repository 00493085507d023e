//! Calls of models that read and do not write, as jobs make them: within their quota, held for, said in the log
//! and booked.

use std::future::Future;
use std::time::Duration;

use millhand_common::model::JobError;
use millhand_common::ports::{ModelError, Reading};
use millhand_common::prices::Prices;
use millhand_common::tokens;

use super::{Costs, Marks, Plan};
use crate::attempt::{Attempt, Failure, Stopped};
use crate::quota::{Denied, IN_PLACE_ONCE_BEGUN, Limited, Permit};

/// A call that is to be made.
pub(crate) struct ToRead<'a, M: ?Sized> {
    pub(crate) attempt: &'a Attempt,
    pub(crate) costs: &'a Costs,
    pub(crate) model: &'a Limited<M>,
    pub(crate) name: &'a str,
    /// Its place in the line, for every attempt that comes to it.
    pub(crate) step: &'a str,
    /// All that the model reads, what it reads twice twice.
    pub(crate) texts: &'a [&'a str],
}

/// Why nothing was read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// The attempt has to end.
    Failure(Failure),
    /// It asks for more than its limits can ever give.
    TooLarge(JobError),
    Model(ModelError),
}

impl From<Failure> for Unread {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Stopped> for Unread {
    fn from(stopped: Stopped) -> Self {
        Self::Failure(stopped.into())
    }
}

impl From<Denied> for Unread {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Later { after } => Self::Failure(Failure::NoQuota { after }),
            Denied::Never(error) => Self::TooLarge(error),
        }
    }
}

impl Unread {
    /// For what can go on without: an error only where the attempt has to end. `instead` says what is done.
    pub(crate) fn go_on(self, instead: &'static str) -> Result<(), Failure> {
        match self {
            Self::Failure(Failure::OverBudget(error)) | Self::TooLarge(error) => {
                tracing::warn!(error.code = error.code, "{}: {instead}", error.message);
            }
            Self::Model(err) => tracing::warn!(error = %err, "{instead}"),
            Self::Failure(failure) => return Err(failure),
        }
        Ok(())
    }
}

impl<M: ?Sized> ToRead<'_, M> {
    /// The right to make it, waited for in place for at most `patience`.
    pub(crate) async fn admit(&self, patience: Duration) -> Result<Option<Permit>, Denied> {
        self.model.admit(self.attempt, self.step, self.texts, patience).await
    }

    /// Makes it: has `call`, which was not begun, run.
    pub(crate) async fn make<T>(
        &self,
        mut permit: Option<Permit>,
        call: impl Future<Output = Result<Reading<T>, ModelError>>,
    ) -> Result<T, Unread> {
        let mut booked = loop {
            let plan = self.costs.plan_reading(self.attempt, self.name, self.texts).await?;
            let booked = self.costs.open(self.attempt, plan).await?;
            // What was asked and written since it was granted may have taken long.
            let Some(stale) = permit.take_if(|permit| !permit.is_fresh()) else { break booked };
            drop(booked);
            stale.give_back().await;
            permit = self.admit(IN_PLACE_ONCE_BEGUN).await?;
        };
        if let Some(permit) = &mut permit {
            permit.sent();
        }
        booked.sent();
        let read = call.await;
        if let Some(permit) = &mut permit {
            permit.over(&read);
        }
        match read {
            Ok(read) => {
                booked.ended(read.usage);
                booked.learn("");
                Ok(read.value)
            }
            Err(err) => {
                booked.failed(&err);
                Err(Unread::Model(err))
            }
        }
    }
}

impl Costs {
    /// As [`Self::plan`], for a model that writes nothing.
    async fn plan_reading(&self, attempt: &Attempt, model: &str, texts: &[&str]) -> Result<Plan, Failure> {
        let price = self.price(model, Prices::reader_ceiling);
        let measured = tokens::of_texts(texts.iter().copied());
        self.hold(attempt, Plan::new((model, Marks::None), price, measured, Some(0)), texts).await
    }
}
