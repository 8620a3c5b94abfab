//! Walks the ledger and proves it: each row against its hash and the one before, each chain against its checkpoints. Must not know
//! how findings are shown.
//!
//! One walk by `id` serves all instances, and needs no index: of one instance ids rise with `seq`. What is written meanwhile is
//! left out: checkpoints are bounded first, then rows, so that a row is there if its checkpoint is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use diesel::result::Error as QueryError;
use diesel::{ExpressionMethods as _, QueryDsl as _, QueryResult, RunQueryDsl as _, SelectableHelper as _};
use serde::Serialize;

use super::super::checkpoints::{self, Checkpoint, Mark, Notary, Proof};
use super::super::schema::command_history;
use super::super::{DbConnection, instances};
use super::chain::{Chain, Hash, Head};
use super::testimony::Testimony;
use super::{Entry, last_id};

/// Rows of one page, and checkpoints.
const PAGE: i64 = 1_000;

/// What is wrong, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whose chain.
    pub instance_id: String,
    /// The row's number in it.
    pub seq: Option<i64>,
    /// The row's place in the table.
    pub id: Option<i64>,
    /// The call that it tells of.
    pub call_id: Option<String>,
    /// What differs.
    pub what: String,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows that were read.
    pub rows: u64,
    /// Of these, rows older than the chain, which have no hash.
    pub unchained: u64,
    /// Numbers that the writer itself left out, as the chain proves: rows that the database lost or refused.
    pub skipped: u64,
    /// Chains.
    pub instances: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Of these, those that could not be proved, for want of any key.
    pub unproved: u64,
    /// Rows of which the server told, in a log or now.
    pub told: u64,
    /// The first fault of each chain.
    pub broken: Vec<Finding>,
}

/// One instance's chain, as far as it was walked.
#[derive(Default)]
struct Thread {
    head: Head,
    /// Its rows have hashes.
    is_chained: bool,
    is_broken: bool,
    /// The last row that was deleted on purpose.
    pruned: i64,
    /// The checkpoints that come next, in the order of rows.
    ahead: VecDeque<Checkpoint>,
    /// The last one that was read, if there may be more.
    read_to: Option<(i64, i64)>,
    /// The newest row that a checkpoint tells of.
    marked: i64,
    /// The rows that come next of which the server told, with their hashes.
    told: BTreeSet<(i64, Hash)>,
    /// The row with which it ended.
    ended: Option<i64>,
}

/// A walk in progress.
pub struct Audit<'n> {
    notary: &'n Notary,
    only: Option<String>,
    threads: BTreeMap<String, Thread>,
    /// Those that had stopped before the walk.
    stopped: BTreeSet<String>,
    last_checkpoint: i64,
    last_row: i64,
    at: i64,
    /// Rows that are read one by one, since one of them cannot be read.
    singly: i64,
    chain: Chain,
    report: Report,
}

impl<'n> Audit<'n> {
    /// Bounds the walk, of all chains or one.
    ///
    /// # Errors
    /// What the database says.
    pub fn begin(connection: &mut DbConnection, notary: &'n Notary, only: Option<&str>) -> QueryResult<Self> {
        let stopped = instances::stopped_ones(connection)?.into_iter().collect();
        let last_checkpoint = checkpoints::last_id(connection)?;
        let last_row = last_id(connection)?;
        let mut audit = Self {
            notary,
            only: only.map(str::to_owned),
            threads: BTreeMap::new(),
            stopped,
            last_checkpoint,
            last_row,
            at: i64::MIN,
            singly: 0,
            chain: Chain::default(),
            report: Report::default(),
        };
        for instance in checkpoints::instances(connection)? {
            if only.is_none_or(|only| only == instance) {
                audit.open(connection, &instance)?;
            }
        }
        Ok(audit)
    }

    /// Holds what the server told against the rows, too.
    ///
    /// # Errors
    /// What the database says.
    pub fn hear(&mut self, connection: &mut DbConnection, testimony: Testimony) -> QueryResult<()> {
        for (instance, told) in testimony.by_instance {
            if self.only.as_ref().is_some_and(|only| *only != instance) {
                continue;
            }
            self.open(connection, &instance)?;
            self.report.told += told.len() as u64;
            if let Some(thread) = self.threads.get_mut(&instance) {
                thread.told = told;
            }
        }
        Ok(())
    }

    /// Rows read so far, and about how much of all that is, in percent.
    pub fn progress(&self) -> (u64, i64) {
        (self.report.rows, self.at.max(0).saturating_mul(100) / self.last_row.max(1))
    }

    /// Walks one page. False when there is no more.
    ///
    /// # Errors
    /// What the database says.
    pub fn page(&mut self, connection: &mut DbConnection) -> QueryResult<bool> {
        let limit = if self.singly > 0 { 1 } else { PAGE };
        let rows = match self.read(connection, limit) {
            Ok(rows) => rows,
            Err(QueryError::DeserializationError(_)) if limit > 1 => {
                self.singly = PAGE;
                return Ok(true);
            }
            Err(QueryError::DeserializationError(error)) => {
                self.pass_unreadable(connection, &error.to_string())?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        self.singly = (self.singly - 1).max(0);
        let is_last = (rows.len() as i64) < limit;
        for (entry, hash) in rows {
            self.at = entry.id;
            self.step(connection, &entry, hash)?;
        }
        Ok(!is_last)
    }

    fn read(&self, connection: &mut DbConnection, limit: i64) -> QueryResult<Vec<(Entry, Option<Vec<u8>>)>> {
        let mut query = command_history::table
            .filter(command_history::id.gt(self.at))
            .filter(command_history::id.le(self.last_row))
            .order(command_history::id.asc())
            .limit(limit)
            .select((Entry::as_select(), command_history::hash))
            .into_boxed();
        if let Some(only) = &self.only {
            query = query.filter(command_history::instance_id.eq(only.clone()));
        }
        query.load(connection)
    }

    /// Goes on behind a row whose columns are not even of their types.
    fn pass_unreadable(&mut self, connection: &mut DbConnection, why: &str) -> QueryResult<()> {
        let (id, instance_id): (i64, String) = command_history::table
            .filter(command_history::id.gt(self.at))
            .order(command_history::id.asc())
            .select((command_history::id, command_history::instance_id))
            .first(connection)?;
        self.at = id;
        self.report.rows += 1;
        self.open(connection, &instance_id)?;
        self.find(&instance_id, None, Some(id), None, format!("the row cannot be read: {why}"));
        Ok(())
    }

    /// The chain of an instance that was not met before, from where it begins.
    fn open(&mut self, connection: &mut DbConnection, instance_id: &str) -> QueryResult<()> {
        if self.threads.contains_key(instance_id) {
            return Ok(());
        }
        self.report.instances += 1;
        let mut thread = Thread { read_to: Some((-1, 0)), ..Thread::default() };
        if let Some(pruned) = checkpoints::pruned(connection, instance_id)? {
            begin_behind(&mut thread, &pruned);
        }
        self.threads.insert(instance_id.to_owned(), thread);
        self.read_ahead(connection, instance_id)
    }

    /// Has at least one checkpoint in hand if there are any more, and proves what it reads.
    fn read_ahead(&mut self, connection: &mut DbConnection, instance_id: &str) -> QueryResult<()> {
        let Some(thread) = self.threads.get_mut(instance_id) else { return Ok(()) };
        let Some(after) = thread.read_to.filter(|_| thread.ahead.is_empty()) else { return Ok(()) };
        let some = checkpoints::some_of(connection, instance_id, after, self.last_checkpoint, PAGE)?;
        thread.read_to = some.last().filter(|_| some.len() as i64 == PAGE).map(|last| (last.seq, last.id));
        let (mut unproved, mut faults) = (0, Vec::new());
        self.report.checkpoints += some.len() as u64;
        for checkpoint in some {
            let proof = self.notary.prove(&checkpoint);
            match proof {
                Proof::Holds => {}
                Proof::Unknown if !self.notary.has_key() => unproved += 1,
                Proof::Unknown | Proof::Broken => faults.push((checkpoint.seq, fault(proof, &checkpoint))),
            }
            thread.marked = thread.marked.max(checkpoint.seq);
            if checkpoint.kind == Mark::Head.name() {
                thread.ended = Some(checkpoint.seq);
            }
            if checkpoint.seq > thread.pruned {
                thread.ahead.push_back(checkpoint);
            }
        }
        self.report.unproved += unproved;
        for (seq, what) in faults {
            self.find(instance_id, Some(seq), None, None, what);
        }
        Ok(())
    }

    fn step(&mut self, connection: &mut DbConnection, row: &Entry, hash: Option<Vec<u8>>) -> QueryResult<()> {
        self.report.rows += 1;
        let instance_id = row.instance_id.as_str();
        self.open(connection, instance_id)?;
        let Some(thread) = self.threads.get(instance_id) else { return Ok(()) };
        if thread.is_broken {
            return Ok(());
        }
        let Some(hash) = hash else {
            match self.why_unhashed(instance_id, thread) {
                Some(why) => self.find_in(row, why),
                None => self.report.unchained += 1,
            }
            return Ok(());
        };
        if let Some(what) = self.compare(connection, row, &hash)? {
            self.find_in(row, what);
            return Ok(());
        }
        // It was compared: it has the length of one.
        let hash = Hash::try_from(hash.as_slice()).unwrap_or_default();
        if let Some(thread) = self.threads.get_mut(instance_id) {
            let before = thread.head.seq;
            (thread.head, thread.is_chained) = (Head { seq: row.seq, hash }, true);
            self.report.skipped += u64::try_from(row.seq - before - 1).unwrap_or_default();
        }
        self.check_told(row);
        self.check_marks(connection, row)
    }

    /// Compares a row that holds with what the server told of it, and of rows before it.
    fn check_told(&mut self, row: &Entry) {
        let Some(thread) = self.threads.get_mut(&row.instance_id) else { return };
        let later = thread.told.split_off(&(row.seq.saturating_add(1), Hash::default()));
        let told = std::mem::replace(&mut thread.told, later);
        let (pruned, hash) = (thread.pruned, thread.head.hash);
        for (seq, its) in told {
            if seq == row.seq && its != hash {
                self.find_in(
                    row,
                    "its hash is another than that which the server told: this chain was written anew"
                        .to_owned(),
                );
            } else if seq < row.seq && seq > pruned {
                self.find_in(row, format!("row {seq}, of which the server told, is gone from before it"));
            }
        }
    }

    /// Why a row should have a hash: none where it is older than the chain. Ids of instances rise with time.
    fn why_unhashed(&self, instance_id: &str, thread: &Thread) -> Option<String> {
        let is_chained = thread.is_chained || thread.marked > 0 || thread.pruned > 0;
        let is_younger = || {
            let mut others = self.threads.iter().take_while(|(other, _)| other.as_str() < instance_id);
            others.any(|(_, other)| other.is_chained || other.marked > 0)
        };
        (is_chained || is_younger())
            .then(|| "it has no hash; its hash was taken away, or it was added by hand".to_owned())
    }

    /// What differs between a row and what must come next.
    fn compare(
        &mut self,
        connection: &mut DbConnection,
        row: &Entry,
        hash: &[u8],
    ) -> QueryResult<Option<String>> {
        let mut is_fresh = false;
        loop {
            let Some(thread) = self.threads.get(&row.instance_id) else { return Ok(None) };
            let before = thread.head.seq;
            if row.seq <= before {
                return Ok(Some(format!(
                    "it stands behind row {before}: it was moved here or added by hand"
                )));
            }
            if thread.ended.is_some_and(|ended| row.seq > ended) {
                return Ok(Some("it came after the instance had stopped: it was added by hand".to_owned()));
            }
            self.chain.head = thread.head;
            if self.chain.hash_after(row).as_slice() == hash {
                return Ok(None);
            }
            let is_first = !thread.is_chained;
            // Its beginning may have been deleted on purpose while we walked.
            if is_first && !is_fresh {
                is_fresh = true;
                if let Some(pruned) = checkpoints::pruned(connection, &row.instance_id)?
                    && self.notary.prove(&pruned) != Proof::Broken
                    && let Some(thread) = self.threads.get_mut(&row.instance_id)
                    && pruned.seq > thread.pruned
                {
                    begin_behind(thread, &pruned);
                    continue;
                }
            }
            let what = match row.seq - before - 1 {
                0 if before == 0 => "it was changed, or its hash was".to_owned(),
                0 => format!("it was changed, or its hash or that of row {before} was"),
                1 => format!("row {} is gone from before it, or it was changed", before + 1),
                count => format!(
                    "the {count} rows {} to {} are gone from before it, or it was changed",
                    before + 1,
                    row.seq - 1
                ),
            };
            return Ok(Some(what));
        }
    }

    /// Compares a row that holds with the checkpoints up to it.
    fn check_marks(&mut self, connection: &mut DbConnection, row: &Entry) -> QueryResult<()> {
        loop {
            let Some(thread) = self.threads.get_mut(&row.instance_id) else { return Ok(()) };
            if thread.ahead.front().is_none_or(|next| next.seq > row.seq) {
                return Ok(());
            }
            let Some(next) = thread.ahead.pop_front() else { return Ok(()) };
            if next.seq < row.seq {
                self.find_in(
                    row,
                    format!("row {}, which a checkpoint tells of, is gone from before it", next.seq),
                );
            } else if next.hash != thread.head.hash {
                self.find_in(
                    row,
                    format!(
                        "its hash is another than that in the {} of {}: this chain was written anew",
                        next.kind,
                        next.created_at.and_utc().format("%F %TZ")
                    ),
                );
            }
            self.read_ahead(connection, &row.instance_id)?;
        }
    }

    /// Looks at how each chain ends.
    ///
    /// # Errors
    /// What the database says.
    pub fn end(mut self, connection: &mut DbConnection) -> QueryResult<Report> {
        let ids: Vec<String> = self.threads.keys().cloned().collect();
        for id in ids {
            // The rest of what its checkpoints say.
            while let Some(thread) = self.threads.get_mut(&id)
                && thread.read_to.is_some()
            {
                thread.ahead.clear();
                self.read_ahead(connection, &id)?;
            }
            let Some(thread) = self.threads.get(&id) else { continue };
            let last = thread.head.seq;
            let told = thread.told.last().map(|(seq, _)| *seq).filter(|told| *told > last);
            if thread.marked > last && !self.is_pruned_to(connection, &id, thread.marked)? {
                let what = format!(
                    "the rows {} to {} are gone from its end, as a checkpoint tells",
                    last + 1,
                    thread.marked
                );
                self.find(&id, Some(last + 1), None, None, what);
            } else if let Some(told) = told
                && !self.is_pruned_to(connection, &id, told)?
            {
                let what =
                    format!("the rows {} to {told} are gone from its end, as the server told", last + 1);
                self.find(&id, Some(last + 1), None, None, what);
            } else if thread.is_chained
                && thread.marked < last
                && self.stopped.contains(&id)
                && self.notary.has_key()
            {
                let what = format!(
                    "it has stopped, and no checkpoint tells of its last rows {} to {last}",
                    thread.marked + 1
                );
                self.find(&id, Some(thread.marked + 1), None, None, what);
            }
        }
        // What is broken first comes first.
        self.report.broken.sort_by_key(|finding| finding.id.unwrap_or(i64::MAX));
        Ok(self.report)
    }

    /// Whether all of it up to that row was deleted on purpose, while we walked or before.
    fn is_pruned_to(&self, connection: &mut DbConnection, id: &str, seq: i64) -> QueryResult<bool> {
        let pruned = checkpoints::pruned(connection, id)?;
        Ok(pruned.is_some_and(|pruned| pruned.seq >= seq && self.notary.prove(&pruned) != Proof::Broken))
    }

    fn find_in(&mut self, row: &Entry, what: String) {
        let call_id = Some(row.call_id.clone());
        self.find(&row.instance_id, Some(row.seq), Some(row.id), call_id, what);
    }

    /// Of each chain the first fault is told; all behind it follows from it.
    fn find(
        &mut self,
        instance_id: &str,
        seq: Option<i64>,
        id: Option<i64>,
        call_id: Option<String>,
        what: String,
    ) {
        let Some(thread) = self.threads.get_mut(instance_id) else { return };
        if std::mem::replace(&mut thread.is_broken, true) {
            return;
        }
        self.report.broken.push(Finding { instance_id: instance_id.to_owned(), seq, id, call_id, what });
    }
}

fn begin_behind(thread: &mut Thread, pruned: &Checkpoint) {
    let hash = Hash::try_from(pruned.hash.as_slice()).unwrap_or_default();
    thread.head = Head { seq: pruned.seq, hash };
    thread.pruned = pruned.seq;
    thread.ahead.retain(|checkpoint| checkpoint.seq > pruned.seq);
}

fn fault(proof: Proof, checkpoint: &Checkpoint) -> String {
    let at = checkpoint.created_at.and_utc().format("%F %TZ");
    match proof {
        Proof::Unknown => format!(
            "its {} of {at} is sealed with the key {}, which is not at hand; put that key into data/sealing.key, below the others",
            checkpoint.kind, checkpoint.key_id
        ),
        _ => {
            format!("its {} of {at} does not have our seal: it was changed or made by hand", checkpoint.kind)
        }
    }
}
