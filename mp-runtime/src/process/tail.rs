//! The end of a stream of bytes.

/// Keeps the last so many bytes.
pub(super) struct Tail {
    limit: usize,
    /// Up to twice as many, so that not every byte that is added moves all others.
    bytes: Vec<u8>,
    /// Something came before them.
    is_cut: bool,
}

impl Tail {
    pub(super) fn of(limit: usize) -> Tail {
        Tail {
            limit,
            bytes: Vec::new(),
            is_cut: false,
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.len() > self.limit {
            self.bytes.clear();
            self.is_cut = true;
        }
        self.bytes.extend_from_slice(last(bytes, self.limit));
        if self.bytes.len() > self.limit.saturating_mul(2) {
            let surplus = self.bytes.len() - self.limit;
            self.bytes.drain(..surplus);
            self.is_cut = true;
        }
    }

    /// What is kept, from the start of a line on if it has one; `None` if there was nothing.
    pub(super) fn text(&self) -> Option<String> {
        let kept = last(&self.bytes, self.limit);
        if kept.is_empty() {
            return None;
        }
        let is_cut = self.is_cut || kept.len() < self.bytes.len();
        let start = if is_cut { first_start(kept) } else { 0 };
        Some(String::from_utf8_lossy(&kept[start..]).into_owned())
    }
}

fn last(bytes: &[u8], count: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(count)..]
}

/// Where the first whole line begins, or the first whole character of a line that has no end.
fn first_start(bytes: &[u8]) -> usize {
    let after_line = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map(|at| at + 1);
    let is_continued = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let after_character = || {
        bytes
            .iter()
            .take(3)
            .take_while(|byte| is_continued(byte))
            .count()
    };
    after_line
        .filter(|&start| start < bytes.len())
        .unwrap_or_else(after_character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(limit: usize, pieces: &[&str]) -> Option<String> {
        let mut tail = Tail::of(limit);
        for piece in pieces {
            tail.push(piece.as_bytes());
            assert!(tail.bytes.len() <= 2 * limit, "it keeps too much");
        }
        tail.text()
    }

    #[test]
    fn what_fits_is_kept_as_it_is() {
        assert_eq!(tail_of(8, &[]), None);
        assert_eq!(tail_of(8, &["", "ab"]).as_deref(), Some("ab"));
        assert_eq!(
            tail_of(8, &["ab\n", "cd\nef"]).as_deref(),
            Some("ab\ncd\nef")
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_at_the_start_of_a_line() {
        assert_eq!(tail_of(8, &["ab\ncd\nefg"]).as_deref(), Some("cd\nefg"));
        let bytewise: Vec<String> = "one\ntwo\nthree\n".chars().map(String::from).collect();
        let bytewise: Vec<&str> = bytewise.iter().map(String::as_str).collect();
        assert_eq!(tail_of(12, &bytewise).as_deref(), Some("two\nthree\n"));
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        assert_eq!(tail_of(4, &["abcdefgh"]).as_deref(), Some("efgh"));
        assert_eq!(tail_of(4, &["abcdefg\n"]).as_deref(), Some("efg\n"));
        assert_eq!(tail_of(5, &["€€€"]).as_deref(), Some("€"));
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        let mut tail = Tail::of(16);
        tail.push(b"a\xffb");
        assert_eq!(tail.text().as_deref(), Some("a\u{fffd}b"));
    }
}
