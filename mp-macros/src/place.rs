//! Where generated tokens stand in the user's source.

use proc_macro2::Span;

/// The place of the user's tokens, for tokens that the user did not write.
pub(crate) fn generated_at(place: Span) -> Span {
    place.resolved_at(Span::mixed_site())
}
