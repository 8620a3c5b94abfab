//! Samples as folded stacks: a line each, the outermost function first, as all that draws flame graphs reads them. Must not know
//! where they come from.

use std::collections::BTreeMap;

use super::Samples;

/// Writes samples down, equal stacks once.
pub fn folded(samples: &Samples) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for stack in &samples.stacks {
        let outermost_first = std::iter::once(&stack.thread).chain(stack.functions.iter().rev());
        // `[u8; 4]` has what parts functions here.
        let names: Vec<String> = outermost_first.map(|name| name.replace([';', '\n'], ",")).collect();
        *lines.entry(names.join(";")).or_default() += stack.count;
    }
    lines.iter().map(|(stack, count)| format!("{stack} {count}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Stack;
    use super::*;

    #[test]
    fn equal_stacks_are_one_line_and_no_name_parts_another() {
        let stack = |functions: &[&str], count| Stack {
            thread: "worker".to_owned(),
            functions: functions.iter().map(|name| (*name).to_owned()).collect(),
            count,
        };
        let stacks = vec![stack(&["b", "a"], 2), stack(&["<[u8; 4]>::c", "a"], 1), stack(&["b", "a"], 3)];
        let samples = Samples { stacks, began: SystemTime::UNIX_EPOCH, took: Duration::ZERO };
        assert_eq!(folded(&samples), "worker;a;<[u8, 4]>::c 1\nworker;a;b 5\n");
    }
}
