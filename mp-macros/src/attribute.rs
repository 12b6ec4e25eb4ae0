//! Which part of an expansion an attribute of the user belongs to.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{AttrStyle, Attribute, Meta, Token, Visibility, parse_quote_spanned};

/// What an attribute is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Concern {
    /// Whether there is an item at all: `cfg`.
    Presence,
    /// What it is, for those who read about it.
    Docs,
    /// Whether it should still be used.
    Deprecation,
    /// Lint levels, which hold for the item's name and for its body.
    Lint,
    /// The running code, and every attribute this crate has never heard of.
    Body,
}

impl Concern {
    pub(crate) fn of(attribute: &Attribute) -> Self {
        Self::of_meta(&attribute.meta)
    }

    fn of_meta(meta: &Meta) -> Self {
        let Some(name) = meta.path().get_ident() else {
            return Self::Body;
        };
        match name.to_string().as_str() {
            "cfg" => Self::Presence,
            "doc" => Self::Docs,
            "deprecated" => Self::Deprecation,
            "allow" | "expect" | "warn" | "deny" | "forbid" => Self::Lint,
            "cfg_attr" => Self::of_conditional(meta),
            _ => Self::Body,
        }
    }

    /// A `cfg_attr` is about what its attributes are about, if they agree.
    fn of_conditional(meta: &Meta) -> Self {
        let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
        let Ok(metas) = meta
            .require_list()
            .and_then(|list| list.parse_args_with(parser))
        else {
            return Self::Body;
        };
        let mut concerns = metas.iter().skip(1).map(Self::of_meta);
        match concerns.next() {
            Some(first) if concerns.all(|concern| concern == first) => first,
            _ => Self::Body,
        }
    }
}

/// Makes an expectation about lints a permission.
///
/// One item of the user becomes several, and the lint that is expected will fire in one of them at
/// most.
pub(crate) fn soften(attribute: &Attribute) -> Attribute {
    let mut softened = attribute.clone();
    soften_meta(&mut softened.meta);
    softened
}

fn soften_meta(meta: &mut Meta) {
    let Meta::List(list) = meta else { return };
    if list.path.is_ident("expect") {
        let span = list.path.span();
        list.path = parse_quote_spanned!(span=> allow);
    } else if list.path.is_ident("cfg_attr") {
        let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
        if let Ok(mut metas) = list.parse_args_with(parser) {
            metas.iter_mut().skip(1).for_each(soften_meta);
            list.tokens = metas.into_token_stream();
        }
    }
}

/// Gives each inner attribute, `#![...]`, the form it has above an item.
pub(crate) fn make_outer(attributes: &mut [Attribute]) {
    for attribute in attributes {
        attribute.style = AttrStyle::Outer;
    }
}

/// The attribute that may take away what it is on.
pub(crate) fn find_cfg(attributes: &[Attribute]) -> Option<&Attribute> {
    attributes.iter().find(|attribute| {
        let path = attribute.path();
        path.is_ident("cfg") || path.is_ident("cfg_attr")
    })
}

/// The keyword that says what an item is, for an error about what it is not.
pub(crate) fn item_keyword(item: TokenStream) -> Span {
    let parser = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let keyword = input.span();
        input.parse::<TokenStream>()?;
        Ok(keyword)
    };
    parser.parse2(item).unwrap_or_else(|_| Span::call_site())
}
