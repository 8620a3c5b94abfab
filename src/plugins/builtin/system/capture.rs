//! What is kept of a stream that may be endless: its beginning, its end, and how much there was. Pure.

use std::collections::VecDeque;

/// A stream as it comes in.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    head_max: usize,
    tail: VecDeque<u8>,
    tail_max: usize,
    total: u64,
}

/// A stream as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// With a line where something was left out.
    pub(super) text: String,
    /// All there was.
    pub(super) bytes: u64,
    /// Of these, what is not in the text.
    pub(super) lost: u64,
    /// Whether some bytes were no UTF-8, and are shown as `U+FFFD`.
    pub(super) mended: bool,
}

impl Capture {
    /// Keeps `max` bytes: half of the beginning and half of the end.
    pub(super) fn new(max: usize) -> Self {
        let head_max = max / 2;
        Self { head: Vec::new(), head_max, tail: VecDeque::new(), tail_max: max - head_max, total: 0 }
    }

    /// Takes what came next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_max.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        let (_, kept) = rest.split_at(rest.len().saturating_sub(self.tail_max));
        let surplus = (self.tail.len() + kept.len()).saturating_sub(self.tail_max);
        self.tail.drain(..surplus);
        self.tail.extend(kept);
    }

    /// Whether something was left out already.
    pub(super) fn overflows(&self) -> bool {
        self.lost() > 0
    }

    fn lost(&self) -> u64 {
        self.total - (self.head.len() + self.tail.len()) as u64
    }

    /// What can be shown of it.
    pub(super) fn show(mut self) -> Shown {
        let lost = self.lost();
        let tail = self.tail.make_contiguous();
        if lost == 0 {
            self.head.extend_from_slice(tail);
            let (text, mended) = decode(&self.head);
            return Shown { text, bytes: self.total, lost, mended };
        }
        // A character that was cut in two is left out whole.
        let head = without_cut_end(&self.head);
        let begin = tail.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
        let tail = tail.get(begin..).unwrap_or_default();
        let lost = self.total - (head.len() + tail.len()) as u64;
        let ((head, head_mended), (tail, tail_mended)) = (decode(head), decode(tail));
        let text = format!("{head}\n[… {lost} bytes are left out here …]\n{tail}");
        Shown { text, bytes: self.total, lost, mended: head_mended || tail_mended }
    }
}

fn decode(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), true),
    }
}

/// The bytes without a character at their end that lacks its own.
fn without_cut_end(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        // `error_len` is none where more bytes could have made it good.
        Err(error) if error.error_len().is_none() => bytes.get(..error.valid_up_to()).unwrap_or(bytes),
        // Bad in the middle: only the last bytes matter, and a lead byte is among the last three.
        Err(_) => {
            let end = bytes.len();
            let lead = (1..=3.min(end)).find(|back| bytes.get(end - back).is_some_and(|byte| *byte >= 0xC0));
            let cut = lead.filter(|back| {
                let last = bytes.get(end - back..).unwrap_or_default();
                std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none())
            });
            bytes.get(..end - cut.unwrap_or(0)).unwrap_or(bytes)
        }
        Ok(_) => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(max: usize, pieces: &[&[u8]]) -> Shown {
        let mut capture = Capture::new(max);
        pieces.iter().for_each(|piece| capture.push(piece));
        capture.show()
    }

    #[test]
    fn what_fits_is_shown_as_it_came() {
        let all = shown(10, &[b"hello", b" ", b"worl"]);
        assert_eq!(all, Shown { text: "hello worl".to_owned(), bytes: 10, lost: 0, mended: false });
        assert_eq!(shown(10, &[]).text, "");
    }

    #[test]
    fn of_more_the_beginning_and_the_end_are_shown_with_the_loss() {
        for pieces in [&[&b"0123456789abcdef"[..]][..], &[b"012", b"345678", b"9abc", b"d", b"ef"]] {
            let part = shown(6, pieces);
            assert_eq!(part.text, "012\n[… 10 bytes are left out here …]\ndef");
            assert_eq!((part.bytes, part.lost, part.mended), (16, 10, false));
        }
    }

    #[test]
    fn an_endless_stream_takes_no_more_room_than_granted() {
        let mut capture = Capture::new(100);
        for _ in 0..1000 {
            capture.push(&[b'x'; 4096]);
        }
        assert_eq!((capture.head.len(), capture.tail.len(), capture.total), (50, 50, 4_096_000));
        assert!(capture.overflows());
    }

    #[test]
    fn a_character_that_the_cut_divides_is_left_out_and_not_garbled() {
        // Three bytes each: the cuts fall into the middle of the second and of the last but one.
        let part = shown(8, &["€€€€€".as_bytes()]);
        assert_eq!(part.text, "€\n[… 9 bytes are left out here …]\n€");
        assert_eq!((part.lost, part.mended), (9, false));
        let part = shown(12, &[b"\xFFab\xE2\x82", &[b'.'; 30]]);
        assert!(part.mended && part.text.starts_with("\u{FFFD}ab"), "{part:?}");
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        let part = shown(10, &[b"a\xFFb\xE2\x82"]);
        assert_eq!((part.text.as_str(), part.mended, part.lost), ("a\u{FFFD}b\u{FFFD}", true, 0));
    }
}
