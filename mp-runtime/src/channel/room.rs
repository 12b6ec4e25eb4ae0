//! Where in a ring the next message goes. Pure: numbers in, numbers out.
//!
//! # The ring
//!
//! A ring is a row of *units*, of which those that were used are warm, and those at its far end have
//! no memory behind them. Messages lie one behind the other. Where the next one would not fit, or
//! should not, a *jump* is written in its place, which says where the messages go on. So what is
//! not taken yet, the *live* part, is of one of three shapes (`h` the head, `t` the tail, where the
//! next message goes):
//!
//! ```text
//! straight     ......h=======t......         up to WARM units it goes on; then back to 0, if there
//!                                            is room before h; else on, and the ring grows
//! wrapped      ===t......h=======L..         on, as far as there is room before h
//!                                            else beyond L, the end of what is live: the ring grows
//! overflowing  ===...h===B========t.         on; the ring grows, until the head has come past B
//! ```
//!
//! A jump takes one unit, and there is always room for one at the tail. A position is never the
//! last unit of the ring.
//!
//! `L` and `B` are the *bounds*: they say which of the three it is, and only who writes messages
//! knows them.
//!
//! What is known of the head may be old: then less seems to be free than is.

/// A place in the ring, and how many messages there have been up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) unit: u32,
    pub(crate) count: u32,
}

impl Cursor {
    pub(crate) fn of_word(word: u64) -> Cursor {
        Cursor {
            unit: (word >> 32) as u32,
            count: word as u32,
        }
    }

    pub(crate) fn word(self) -> u64 {
        (u64::from(self.unit) << 32) | u64::from(self.count)
    }

    /// How many messages there are from `earlier` to this; they are counted modulo 2³².
    pub(crate) fn since(self, earlier: Cursor) -> u32 {
        self.count.wrapping_sub(earlier.count)
    }
}

/// What a producer knows beside the head and the tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// `L`: where the live part ends that was begun before the tail went back to 0.
    pub(crate) limit: u32,
    /// `B`: where the live part begins that is behind all others; 0 if there is none.
    pub(crate) base: u32,
}

impl Bounds {
    pub(crate) fn of_word(word: u64) -> Bounds {
        Bounds {
            limit: (word >> 32) as u32,
            base: word as u32,
        }
    }

    pub(crate) fn word(self) -> u64 {
        (u64::from(self.limit) << 32) | u64::from(self.base)
    }
}

/// Where the next message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) unit: u32,
    /// A jump to it has to stand at the tail.
    pub(crate) is_jump: bool,
    pub(crate) bounds: Bounds,
}

/// Finds room for a message of `need` units in a ring of `size` units, of which `warm` are used over and
/// over before it grows.
pub(crate) fn find_room(
    head: Cursor,
    tail: Cursor,
    bounds: Bounds,
    need: u32,
    size: u32,
    warm: u32,
) -> Option<Room> {
    // Behind the message there must be room for a jump.
    let fits = |unit: u32, end: u32| u64::from(unit) + u64::from(need) < u64::from(end);
    let on = |bounds| Room {
        unit: tail.unit,
        is_jump: false,
        bounds,
    };
    let jump = |unit, bounds| Room {
        unit,
        is_jump: true,
        bounds,
    };
    if bounds.base > head.unit {
        // Overflowing.
        fits(tail.unit, size).then(|| on(bounds))
    } else if tail.unit >= head.unit {
        // Straight.
        let wrapped = Bounds {
            limit: tail.unit + 1,
            base: 0,
        };
        if fits(tail.unit, warm.min(size)) {
            Some(on(Bounds::default()))
        } else if fits(0, head.unit) {
            Some(jump(0, wrapped))
        } else {
            fits(tail.unit, size).then(|| on(Bounds::default()))
        }
    } else if fits(tail.unit, head.unit) {
        // Wrapped.
        Some(on(bounds))
    } else {
        let overflowing = Bounds {
            limit: 0,
            base: bounds.limit,
        };
        let goes_on = bounds.limit > head.unit && fits(bounds.limit, size);
        goes_on.then(|| jump(bounds.limit, overflowing))
    }
}
