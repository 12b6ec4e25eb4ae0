//! How a parameter travels: what the caller sends for it, and how the worker hands it to the
//! function.

use syn::{Type, TypePath, TypeReference, parse_quote_spanned};

use crate::place::generated_at;

/// One parameter of a process function.
pub(super) struct Parameter<'a> {
    /// The type in the user's signature.
    pub(super) written: &'a Type,
    /// The type that is sent.
    pub(super) owned: Type,
    pub(super) passing: Passing,
}

/// How a worker comes by an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passing {
    /// `T`: decoded and given away.
    Owned,
    /// `&T` and `&[T]`: decoded and lent.
    Lent,
    /// `&str`: the text in the received message, lent.
    Text,
    /// `&[u8]`: the bytes in the received message, lent.
    Bytes,
}

impl<'a> Parameter<'a> {
    pub(super) fn classify(written: &'a Type) -> Self {
        let (passing, owned) = match without_group(written) {
            Type::Reference(reference) => (passing_of(reference), owned_of(reference)),
            owned => (Passing::Owned, owned.clone()),
        };
        Self {
            written,
            owned,
            passing,
        }
    }

    /// The type that serde has to carry, if that is not known to be so: of `&[T]`, `T`.
    pub(super) fn carried(&self) -> Option<&Type> {
        match (self.passing, without_group(self.written)) {
            (Passing::Text | Passing::Bytes, _) => None,
            (Passing::Lent, Type::Reference(reference)) => match without_group(&reference.elem) {
                Type::Slice(slice) => Some(&slice.elem),
                _ => Some(&self.owned),
            },
            _ => Some(&self.owned),
        }
    }
}

/// The owned type for a borrowed one: `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`.
///
/// It has the spans of the user's tokens, so that an error about it stands at them.
pub(super) fn owned_of(reference: &TypeReference) -> Type {
    let referent = without_group(&reference.elem);
    match referent {
        Type::Slice(slice) => {
            let element = &slice.elem;
            let span = generated_at(slice.bracket_token.span.join());
            parse_quote_spanned!(span=> ::std::vec::Vec<#element>)
        }
        Type::Path(path) if is_primitive(path, "str") => {
            let span = generated_at(path.path.segments[0].ident.span());
            parse_quote_spanned!(span=> ::std::string::String)
        }
        other => other.clone(),
    }
}

fn passing_of(reference: &TypeReference) -> Passing {
    match without_group(&reference.elem) {
        Type::Path(path) if is_primitive(path, "str") => Passing::Text,
        Type::Slice(slice) => match without_group(&slice.elem) {
            Type::Path(path) if is_primitive(path, "u8") => Passing::Bytes,
            _ => Passing::Lent,
        },
        _ => Passing::Lent,
    }
}

/// Parentheses mean nothing around a type; an invisible group comes from a `macro_rules!` macro.
pub(super) fn without_group(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            _ => return ty,
        };
    }
}

fn is_primitive(path: &TypePath, name: &str) -> bool {
    path.qself.is_none() && path.path.is_ident(name)
}
