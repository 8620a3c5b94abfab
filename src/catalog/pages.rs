//! A list in pages, rendered once and sent as shared bytes.
//!
//! MCP 2026-07-28, server/utilities/pagination and caching. Must not know what is listed.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Manner, ViewName};
use crate::protocol::legacy::convert;
use crate::protocol::render::{self, Finished};
use crate::protocol::{LEGACY_COUNT, Method, Object, Raw, RawError, Revision};

/// A cursor that this server did not make for this list.
#[derive(Debug, PartialEq, Eq)]
pub struct CursorError;

/// One rendered result, and what clients of older revisions get in its place, made when the first of them asks.
#[derive(Debug)]
pub struct Page {
    finished: Finished,
    older: [OnceLock<Raw>; LEGACY_COUNT],
}

impl Page {
    /// A page of this result.
    pub fn new(finished: Finished) -> Self {
        Self { finished, older: Default::default() }
    }

    /// As 2026-07-28 has it.
    pub fn finished(&self) -> &Finished {
        &self.finished
    }

    /// The result of `method` as `revision` has it.
    ///
    /// # Errors
    /// When the page is not a result of that method.
    pub fn within(&self, method: Method, revision: Revision) -> Result<Raw, RawError> {
        let made = self.older.get(revision as usize);
        if let Some(made) = made.and_then(OnceLock::get) {
            return Ok(made.clone());
        }
        let result = convert::result(method, &self.finished, revision)?;
        Ok(made.map_or_else(|| result.clone(), |made| made.get_or_init(|| result.clone()).clone()))
    }
}

/// The pages of one list.
#[derive(Debug, Default)]
pub struct Listing {
    key: &'static str,
    view: ViewName,
    pages: Vec<Arc<Page>>,
    /// What the pages show.
    items: Vec<Raw>,
    size: usize,
    /// For how long they hold.
    ttl_ms: u64,
}

impl PartialEq for Listing {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items
    }
}

impl Listing {
    /// Renders `items` under `key`; an empty list is one empty page. Pages of `old` that show the same are kept, with what
    /// older revisions made of them.
    pub(super) fn render(
        key: &'static str,
        view: &ViewName,
        items: Vec<Raw>,
        old: &Self,
        manner: &Manner,
    ) -> Self {
        let size = manner.page_size.max(1);
        let count = items.len().div_ceil(size).max(1);
        let ttl_ms = manner.ttl_ms;
        let mut list =
            Self { key, view: view.clone(), pages: Vec::with_capacity(count), items, size, ttl_ms };
        for page in 0..count {
            if old.key == key && old.view == *view && old.size == size && old.ttl_ms == ttl_ms {
                let same =
                    list.shown(page) == old.shown(page) && (page + 1 < count) == (page + 1 < old.pages.len());
                if let Some(kept) = old.pages.get(page).filter(|_| same) {
                    list.pages.push(Arc::clone(kept));
                    continue;
                }
            }
            let shown: Vec<&str> = list.shown(page).iter().map(Raw::as_str).collect();
            let mut result = Object::default();
            result.set(key, Raw::trusted(format!("[{}]", shown.join(","))));
            if page + 1 < count {
                result.put("nextCursor", list.cursor(page + 1));
            }
            result.put("ttlMs", ttl_ms);
            result.put("cacheScope", "private");
            let finished = render::complete(&result.to_raw(), &manner.info);
            list.pages.extend(finished.map(|finished| Arc::new(Page::new(finished))));
        }
        list
    }

    /// For how many milliseconds clients may keep its pages.
    pub(super) fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// What stands on a page.
    fn shown(&self, page: usize) -> &[Raw] {
        let end = self.items.len().min((page + 1) * self.size);
        self.items.get(page * self.size..end).unwrap_or_default()
    }

    /// The page at `cursor`; the first without one, or at an empty one.
    ///
    /// # Errors
    /// For a cursor that was not made for this list.
    pub fn page(&self, cursor: Option<&str>) -> Result<&Arc<Page>, CursorError> {
        let page = match cursor {
            None | Some("") => 0,
            Some(cursor) => self.read(cursor).ok_or(CursorError)?,
        };
        self.pages.get(page).ok_or(CursorError)
    }

    fn cursor(&self, page: usize) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", self.place(), page * self.size))
    }

    /// What its cursors are good for: this list, in this view.
    fn place(&self) -> Cow<'static, str> {
        match self.view.name() {
            None => self.key.into(),
            Some(view) => format!("{view} {}", self.key).into(),
        }
    }

    fn read(&self, cursor: &str) -> Option<usize> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let (place, offset) = text.rsplit_once(':')?;
        let offset: usize = offset.parse().ok()?;
        (place == self.place() && offset.is_multiple_of(self.size)).then_some(offset / self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::render::ServerInfo;
    use serde_json::Value;

    #[test]
    fn following_the_cursors_shows_every_item_once_and_a_foreign_cursor_is_refused() {
        let manner = Manner { page_size: 3, ttl_ms: 1, info: ServerInfo::new("w", "1") };
        let items: Vec<Raw> = (0..7).map(|n| Raw::value(&Value::from(n))).collect();
        let render =
            |key, view: &ViewName| Listing::render(key, view, items.clone(), &Listing::default(), &manner);
        let list = render("tools", &ViewName::MAIN);
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page: Value =
                serde_json::from_slice(list.page(cursor.as_deref()).unwrap().finished().bytes()).unwrap();
            seen.extend(page["tools"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()));
            let Some(next) = page.get("nextCursor") else { break };
            cursor = Some(next.as_str().unwrap().to_owned());
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        let other = render("prompts", &ViewName::MAIN).cursor(1);
        let elsewhere = render("tools", &ViewName::of("x")).cursor(1);
        let made = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (between, beyond) = (made("tools:4"), made("tools:9"));
        for foreign in ["bogus", "!!", &other, &elsewhere, &between, &beyond] {
            assert_eq!(list.page(Some(foreign)).unwrap_err(), CursorError, "{foreign}");
        }
    }

    #[test]
    fn a_page_that_shows_the_same_is_the_same_page() {
        let manner = Manner { page_size: 2, ttl_ms: 1, info: ServerInfo::new("w", "1") };
        let items = |numbers: &[i32]| numbers.iter().map(|n| Raw::value(&Value::from(*n))).collect();
        let render = |numbers: &[i32], old: &Listing| {
            Listing::render("tools", &ViewName::MAIN, items(numbers), old, &manner)
        };
        let old = render(&[1, 2, 3, 4, 5], &Listing::default());
        let new = render(&[1, 2, 3, 9, 5], &old);
        let kept = |page: usize| Arc::ptr_eq(&old.pages[page], &new.pages[page]);
        assert_eq!([kept(0), kept(1), kept(2)], [true, false, true]);
        // The last page has no cursor to a next one.
        let shorter = render(&[1, 2, 3, 4], &old);
        assert!(!Arc::ptr_eq(&old.pages[1], &shorter.pages[1]) && old != shorter);
    }
}
