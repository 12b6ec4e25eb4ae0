//! Where generated tokens stand in the user's source.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// The place of the user's tokens, for tokens that the user did not write.
pub(crate) fn generated_at(place: Span) -> Span {
    place.resolved_at(Span::mixed_site())
}

/// The places of the first and of the last of the user's tokens, for generated tokens that are to
/// be reported as all of them: spans cannot be joined on stable Rust.
pub(crate) fn generated_across(tokens: impl ToTokens) -> (Span, Span) {
    let tokens: TokenStream = tokens.into_token_stream();
    let mut spans = tokens.into_iter().map(|token| token.span());
    let first = spans.next().unwrap_or_else(Span::mixed_site);
    let last = spans.last().unwrap_or(first);
    (generated_at(first), generated_at(last))
}
