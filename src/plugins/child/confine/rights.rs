//! Takes from this process, and whatever it becomes, the rights of root by which a program could look into other processes
//! or take off its limits. Must not know what the program is.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Other processes' memory and environment, the kernel's own, files and devices past all permissions, limits past the hard
/// ones. In a container root often has none of these but the last two: whoever has fewer rights than Waygate may not look
/// into it.
const TAKEN: CapabilitySet = CapabilitySet::SYS_PTRACE
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETPCAP);

/// Takes them; who has none, as anybody but root, has nothing to lose. They do not come back, since `no_new_privs` is set.
///
/// # Errors
/// What the system says: then the program must not be started.
pub(super) fn take() -> rustix::io::Result<()> {
    // First, for it needs one of them. Who may not do this, or has a kernel that does not know one, is held by what follows.
    for right in TAKEN.iter() {
        match remove_capability_from_bounding_set(right) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let mut sets = capabilities(None)?;
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        set.remove(TAKEN);
    }
    set_capabilities(None, sets)
}
