//! What became stale and is not marked so in Redis yet. Must not know Redis.

use std::collections::BTreeMap;
use std::sync::Arc;

/// More than so many become one: that all is stale.
const DEBTS_MAX: usize = 1_000;

/// What became stale.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Debt {
    /// All answers.
    All,
    /// Those of one plugin.
    Plugin(Arc<str>),
    /// The contents of one of its resources.
    Resource(Arc<str>, Arc<str>),
}

/// All that is owed, each with the number of its last cause: what becomes stale once more while it is being marked is
/// still owed then.
#[derive(Default)]
pub struct Debts {
    owed: BTreeMap<Debt, u64>,
    last: u64,
}

impl Debts {
    /// Owes one more.
    pub fn add(&mut self, debt: Debt) {
        self.last += 1;
        if self.owed.len() >= DEBTS_MAX && !self.owed.contains_key(&debt) {
            self.owed.clear();
            self.owed.insert(Debt::All, self.last);
        } else {
            self.owed.insert(debt, self.last);
        }
    }

    /// All that is owed.
    pub fn owed(&self) -> Vec<(Debt, u64)> {
        self.owed.iter().map(|(debt, number)| (debt.clone(), *number)).collect()
    }

    /// These were marked.
    pub fn paid(&mut self, paid: &[(Debt, u64)]) {
        for (debt, number) in paid {
            if self.owed.get(debt) == Some(number) {
                self.owed.remove(debt);
            }
        }
    }

    /// Whether answers of this plugin, or of this resource of it, may be stale.
    pub fn has(&self, plugin: &Arc<str>, uri: Option<&Arc<str>>) -> bool {
        let owes = |debt: &Debt| self.owed.contains_key(debt);
        !self.owed.is_empty()
            && (owes(&Debt::All)
                || owes(&Debt::Plugin(Arc::clone(plugin)))
                || uri.is_some_and(|uri| owes(&Debt::Resource(Arc::clone(plugin), Arc::clone(uri)))))
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.owed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_stale_again_while_it_is_marked_is_still_owed() {
        let (mut debts, plugin) = (Debts::default(), Arc::<str>::from("p"));
        debts.add(Debt::Plugin(Arc::clone(&plugin)));
        let owed = debts.owed();
        debts.add(Debt::Plugin(Arc::clone(&plugin)));
        debts.paid(&owed);
        assert!(debts.has(&plugin, None));
        let owed = debts.owed();
        debts.paid(&owed);
        assert!(debts.is_empty() && !debts.has(&plugin, None));
    }

    #[test]
    fn a_resource_is_stale_by_itself_with_its_plugin_and_with_all() {
        let (plugin, uri, other): (Arc<str>, Arc<str>, Arc<str>) = ("p".into(), "a:1".into(), "a:2".into());
        let mut debts = Debts::default();
        debts.add(Debt::Resource(Arc::clone(&plugin), Arc::clone(&uri)));
        assert!(
            debts.has(&plugin, Some(&uri)) && !debts.has(&plugin, Some(&other)) && !debts.has(&plugin, None)
        );
        for number in 0..DEBTS_MAX {
            debts.add(Debt::Resource(Arc::clone(&plugin), number.to_string().into()));
        }
        assert!(debts.has(&"another".into(), None), "too many are all");
        assert!(debts.owed().len() <= DEBTS_MAX);
    }
}
