//! What is to be done at a site for a target, as far as the function allows.

use crate::armed::{EntryOnly, Seen};
use crate::site_table::{self, Action as SiteAction};
use crate::sites::State;
use crate::target::{Action, Returns, Target};
use crate::{exits, process};
use patch::{NoExits, NoReturn, Plan};

/// What is to be done at a site.
#[derive(Clone, Copy)]
pub(crate) struct Chosen {
    pub(crate) action: SiteAction,
    pub(crate) returns: Option<Seen>,
    pub(crate) entry_only: Option<EntryOnly>,
}

impl Chosen {
    /// [`Site::action`].
    pub(crate) fn key(&self) -> (u32, u32) {
        let exits = if self.exits() { site_table::EXITS } else { 0 };
        (self.action.code() | exits, self.action.cell())
    }

    pub(crate) fn exits(&self) -> bool {
        matches!(self.returns, Some(Seen::Exits(_)))
    }

    /// What is done at the entry.
    pub(crate) fn at_entry(&self) -> SiteAction {
        if self.exits() { exits::at_entry(self.action) } else { self.action }
    }

    /// Whether a branch back to the first byte is told from a call by what is known of the call.
    pub(crate) fn tells_branches(&self) -> bool {
        match (self.returns, self.action) {
            (None, _) | (Some(Seen::Exits(_)), SiteAction::CountReturn { .. }) => false,
            (Some(_), _) => true,
        }
    }

    /// The action that the function allows, how its returns are seen, and why it is less than what
    /// was asked for.
    pub(crate) fn of(state: &State, new_from: u32, target: &Target, plan: &Plan) -> Self {
        if !target.sees_returns() {
            let action = match target.action {
                Action::Count { cell } => SiteAction::Count { cell },
                _ => SiteAction::Call,
            };
            // Others may see returns there.
            let exits =
                old_exits(state, new_from, target, plan).map(|exits| Seen::Exits(exits as u32));
            return Chosen { action, returns: exits, entry_only: None };
        }
        if target.by == Returns::Instances {
            return Self::without_exits(target, plan, NoExits::NotAsked);
        }
        let shared = matches!(target.action, Action::Call(_))
            && state.sites.get(&plan.site).is_some_and(|old| old.armed)
            && old_exits(state, new_from, target, plan).is_none();
        match &plan.exits {
            // Without exits it is there already.
            _ if shared => Self::without_exits(target, plan, NoExits::NotAsked),
            Err(why) => Self::without_exits(target, plan, *why),
            Ok(exits) => {
                let written = exits.iter().filter(|exit| !exit.at_entry()).count() as u32;
                let action = match target.action {
                    Action::Time { cell } => SiteAction::Time { cell },
                    Action::CountReturn { cell } | Action::Count { cell } => {
                        SiteAction::CountReturn { cell }
                    }
                    Action::Call(_) => SiteAction::Call,
                };
                Chosen { action, returns: Some(Seen::Exits(written)), entry_only: None }
            }
        }
    }

    /// The same by return instances, or without returns.
    pub(crate) fn without_exits(target: &Target, plan: &Plan, why: NoExits) -> Self {
        let no_instances = if target.by == Returns::Exits
            || plan.live.no_stack
            || plan.returns == Err(NoReturn::Asked)
            || !process::has_returns()
        {
            Some(EntryOnly::Exits(why))
        } else if !target.returns {
            Some(EntryOnly::Returns(NoReturn::ReadsReturnAddress))
        } else {
            plan.returns.err().map(EntryOnly::Returns)
        };
        let (action, entry_only) = match (target.action, no_instances) {
            (Action::Call(_), why) => (SiteAction::Call, why),
            (Action::Count { cell }, _) => (SiteAction::Count { cell }, None),
            (Action::Time { cell }, None) => (SiteAction::Time { cell }, None),
            (Action::CountReturn { cell }, None) => (SiteAction::CountReturn { cell }, None),
            (Action::Time { cell } | Action::CountReturn { cell }, why) => {
                (SiteAction::Count { cell }, why)
            }
        };
        let returns = entry_only.is_none().then_some(Seen::Instances);
        Chosen { action, returns, entry_only }
    }
}

/// How many exits are probed of a function that has consumers already.
fn old_exits(state: &State, new_from: u32, target: &Target, plan: &Plan) -> Option<usize> {
    let old = state.sites.get(&plan.site)?;
    let used = matches!(target.action, Action::Call(_)) && (old.armed || old.index >= new_from);
    old.exits.as_ref().filter(|_| used).map(|exits| exits.len())
}
