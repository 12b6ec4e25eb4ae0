//! Bytes that are shared.

use std::sync::Arc;

/// So many need no memory of their own: the arguments, or the result, of a call with some numbers.
const SHORT: usize = 48;

/// Bytes that many may have, and that lie in place if they are few.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Short { bytes: [u8; SHORT], len: usize },
    Long(Arc<Vec<u8>>),
}

impl Bytes {
    /// The content of `buffer`, which is empty afterwards, and has its memory still if that is not
    /// needed.
    #[inline]
    pub(crate) fn take(buffer: &mut Vec<u8>) -> Bytes {
        let len = buffer.len();
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..len) {
            Some(place) => {
                place.copy_from_slice(buffer);
                buffer.clear();
                Bytes::Short { bytes, len }
            }
            None => Bytes::Long(Arc::new(std::mem::take(buffer))),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> &[u8] {
        match self {
            Bytes::Short { bytes, len } => bytes.get(..*len).unwrap_or_default(),
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl Default for Bytes {
    fn default() -> Bytes {
        Bytes::Short {
            bytes: [0; SHORT],
            len: 0,
        }
    }
}
