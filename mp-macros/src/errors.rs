//! Collecting errors, so that a user sees all of them in one build.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;

/// The errors found so far, in the order they were found.
#[derive(Default)]
pub(crate) struct Errors {
    found: Option<syn::Error>,
}

impl Errors {
    /// Adds an error that stands at `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    pub(crate) fn push(&mut self, error: syn::Error) {
        match &mut self.found {
            Some(found) => found.combine(error),
            None => self.found = Some(error),
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        if let Some(error) = other.found {
            self.push(error);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_none()
    }

    /// One `compile_error!` for each error. Each can stand where an item, a statement or a type
    /// can.
    pub(crate) fn into_compile_errors(self) -> Vec<TokenStream> {
        self.found
            .into_iter()
            .flatten()
            .map(|error| error.to_compile_error())
            .collect()
    }
}
