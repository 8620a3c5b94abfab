//! What the process's memory is taken by, as the kernel counts it: by what is mapped, and not by who asked for it.
//!
//! The allocator keeps no account of its callers: that would cost every call something. Must not know who asks.

use std::collections::BTreeMap;

use procfs::process::{MMapPath, MemoryMap, Process};
use serde::Serialize;

/// The memory of this process, in bytes.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Heap {
    /// Who gives memory out within the process.
    pub allocator: &'static str,
    /// Resident memory.
    pub resident_bytes: u64,
    /// The most that it ever was.
    pub peak_bytes: u64,
    /// Of the resident memory, what is this process's alone: what would be free if it ended.
    pub private_bytes: u64,
    /// What was moved to the swap.
    pub swapped_bytes: u64,
    /// By what is mapped.
    pub mappings: BTreeMap<&'static str, Mapped>,
}

/// All mappings of one kind.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapped {
    /// How many.
    pub count: u64,
    /// Addresses that they take, used or not.
    pub virtual_bytes: u64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Of that, what is this process's alone.
    pub private_bytes: u64,
    /// What was moved to the swap.
    pub swapped_bytes: u64,
}

/// Looks at the process's memory. It reads files of the kernel, and blocks while that counts.
///
/// # Errors
/// What the kernel says.
pub fn look() -> Result<Heap, String> {
    let failed =
        |error: procfs::ProcError| format!("what memory is taken by cannot be read from /proc: {error}");
    let own = Process::myself().map_err(failed)?;
    let peak = own.status().map_err(failed)?.vmhwm.unwrap_or_default();
    let program = own.exe().map_err(failed)?;
    let mut heap = Heap {
        allocator: if cfg!(feature = "mimalloc") { "mimalloc" } else { "system" },
        peak_bytes: peak.saturating_mul(1024),
        ..Heap::default()
    };
    for map in own.smaps().map_err(failed)? {
        let kind = match &map.pathname {
            // Memory that was asked for, and the stacks of threads.
            MMapPath::Anonymous | MMapPath::Heap | MMapPath::Other(_) => "anonymous",
            MMapPath::Stack | MMapPath::TStack(_) => "stack",
            MMapPath::Path(path) if *path == program => "program",
            MMapPath::Path(_) => "files",
            _ => "kernel",
        };
        heap.take(kind, &map);
    }
    Ok(heap)
}

impl Heap {
    fn take(&mut self, kind: &'static str, map: &MemoryMap) {
        let of =
            |names: &[&str]| -> u64 { names.iter().filter_map(|name| map.extension.map.get(*name)).sum() };
        let resident = of(&["Rss"]);
        let private = of(&["Private_Clean", "Private_Dirty"]);
        let swapped = of(&["Swap"]);
        self.resident_bytes += resident;
        self.private_bytes += private;
        self.swapped_bytes += swapped;
        let mapped = self.mappings.entry(kind).or_default();
        mapped.count += 1;
        mapped.virtual_bytes += of(&["Size"]);
        mapped.resident_bytes += resident;
        mapped.private_bytes += private;
        mapped.swapped_bytes += swapped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_memory_is_a_part_of_the_whole_and_what_is_held_is_in_it() {
        // Other tests give memory back meanwhile: what is held here is all that is known of the whole.
        let held = vec![1_u8; 32 << 20];
        let heap = look().unwrap();
        assert!(held.iter().all(|byte| *byte == 1));
        let sum = |of: fn(&Mapped) -> u64| heap.mappings.values().map(of).sum::<u64>();
        assert_eq!(sum(|mapped| mapped.resident_bytes), heap.resident_bytes);
        assert_eq!(sum(|mapped| mapped.private_bytes), heap.private_bytes);
        assert_eq!(sum(|mapped| mapped.swapped_bytes), heap.swapped_bytes);
        let anonymous = &heap.mappings["anonymous"];
        assert!(anonymous.resident_bytes + anonymous.swapped_bytes >= 32 << 20, "{heap:?}");
        assert!(heap.peak_bytes > 0 && heap.mappings["program"].resident_bytes > 0, "{heap:?}");
    }
}
