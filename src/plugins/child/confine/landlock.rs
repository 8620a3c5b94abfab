//! Walls by Landlock: which folders a program sees, and whether it reaches the network.
//!
//! Landlock only allows; what is denied is left out. So a folder that holds a denied one is not allowed as a whole, but
//! entry by entry, along the path that leads to the denied one. What that costs: in the folders along that path a program
//! can make nothing new, and it can list them, and the names in the denied folder, too; what those hold stays closed.
//! Whatever this kernel's Landlock cannot do is left undone, and said.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::Confinement;
use crate::plugins::child::report::Confined;

/// What is asked of Landlock, of this version and those before; a kernel that has less does less.
const WANTED: ABI = ABI::V5;
/// What every program needs to run at all: to be read, and run. In `/proc`, Landlock keeps a program from what only a
/// debugger may see of processes outside; one of root has lost its right to see it without being one: see `rights`.
const SYSTEM: [&str; 15] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/etc",
    "/opt",
    "/run",
    "/proc",
    "/sys",
    "/nix/store",
    "/gnu/store",
    "/var/lib/ca-certificates",
];
/// Of devices, those that have no other protection are written by everyone: `/dev/null`, terminals, shared memory.
const DEVICES: &str = "/dev";

/// Walls this process in, and says how far that went, and why no further.
pub(super) fn raise(confinement: &Confinement, program: &Path) -> (Confined, Option<String>) {
    if !confinement.walls() {
        return (Confined::Unasked, None);
    }
    match walls(confinement, program) {
        Ok(RulesetStatus::FullyEnforced) => (Confined::Enforced, None),
        Ok(RulesetStatus::PartiallyEnforced) => {
            (Confined::Partly, Some("this kernel's Landlock cannot do all of it".to_owned()))
        }
        Ok(RulesetStatus::NotEnforced) => {
            (Confined::NotAvailable, Some("this kernel has no Landlock, or it is switched off, or a filter of system calls, as a service manager sets one, forbids it".to_owned()))
        }
        Err(error) => (Confined::NotAvailable, Some(format!("Landlock failed: {error}"))),
    }
}

fn walls(confinement: &Confinement, program: &Path) -> Result<RulesetStatus, RulesetError> {
    let (all, read) = (AccessFs::from_all(WANTED), AccessFs::from_read(WANTED));
    let mut ruleset = Ruleset::default().handle_access(all)?;
    if confinement.no_network {
        ruleset = ruleset.handle_access(AccessNet::from_all(WANTED))?;
    }
    if confinement.folders.is_some() {
        // Whoever is shut in so narrowly has no business with processes outside.
        ruleset = ruleset.scope(Scope::Signal)?;
    }
    let mut walls = Walls { ruleset: ruleset.create()?, denied: real(&confinement.denied) };
    match &confinement.folders {
        None => walls.open(Path::new("/"), all)?,
        Some(folders) => {
            for folder in SYSTEM {
                walls.open_real(Path::new(folder), read)?;
            }
            walls.open_real(Path::new(DEVICES), all)?;
            for (folder, writes) in folders {
                walls.open_real(folder, if *writes { all } else { read })?;
            }
        }
    }
    // What it works in, and the program itself, wherever they are.
    walls.open_real(Path::new("."), all)?;
    walls.open_real(program, read)?;
    Ok(walls.ruleset.restrict_self()?.ruleset)
}

/// Paths without links, as far as they exist.
fn real(paths: &[PathBuf]) -> Vec<PathBuf> {
    let real = |path: &PathBuf| {
        // One that is not there yet is denied where it will be.
        let mut missing = Vec::new();
        let mut there = path.as_path();
        loop {
            if let Ok(real) = fs::canonicalize(there) {
                return missing.iter().rev().fold(real, |path, name| path.join(name));
            }
            match (there.parent(), there.file_name()) {
                (Some(parent), Some(name)) => {
                    missing.push(name.to_owned());
                    there = parent;
                }
                _ => return path.clone(),
            }
        }
    };
    paths.iter().map(real).collect()
}

struct Walls {
    ruleset: RulesetCreated,
    denied: Vec<PathBuf>,
}

impl Walls {
    /// The same as [`Self::open`] for a path with links in it, or one that is not there.
    fn open_real(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        match fs::canonicalize(path) {
            Ok(path) => self.open(&path, access),
            Err(_not_there) => Ok(()),
        }
    }

    /// Allows `access` to all below `path` but what is denied.
    fn open(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        if !self.leads_to_denied(path) {
            return self.allow(path, access);
        }
        self.allow(path, AccessFs::ReadDir.into())?;
        self.descend(path, access)
    }

    fn descend(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        // A folder that cannot be read here cannot be read by the program.
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            // What a link points at is allowed or denied where it is.
            let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if link || self.denied.contains(&path) {
                continue;
            }
            if self.leads_to_denied(&path) {
                self.descend(&path, access)?;
            } else {
                self.allow(&path, access)?;
            }
        }
        Ok(())
    }

    fn leads_to_denied(&self, path: &Path) -> bool {
        self.denied.iter().any(|denied| denied != path && denied.starts_with(path))
    }

    fn allow(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        // Not a link, should one have taken its place meanwhile.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = openat(CWD, path, flags, Mode::empty()) else { return Ok(()) };
        let access = if is_folder(&file) { access } else { access & AccessFs::from_file(WANTED) };
        if !access.is_empty() {
            (&mut self.ruleset).add_rule(PathBeneath::new(file, access))?;
        }
        Ok(())
    }
}

fn is_folder(file: &OwnedFd) -> bool {
    fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
