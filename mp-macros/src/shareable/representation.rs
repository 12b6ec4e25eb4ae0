//! `#[repr(...)]`: which layouts a struct or an enum in shared memory can have.

use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

use crate::errors::Errors;

pub(super) fn check_struct(attributes: &[Attribute], errors: &mut Errors) {
    for representation in representations(attributes) {
        if representation.path().is_ident("packed") {
            errors.at(
                representation,
                "locks and atomics must be aligned, and in a packed struct they are not: leave \
                 `packed` out",
            );
        }
    }
}

/// A single byte is written whole or not at all; anything longer can be left half written.
pub(super) fn check_enum(attributes: &[Attribute], errors: &mut Errors) {
    for representation in representations(attributes) {
        let is_one_byte = ["u8", "i8", "Rust"]
            .iter()
            .any(|name| representation.path().is_ident(name));
        if !is_one_byte {
            errors.at(
                representation,
                "an enum in shared memory is one byte, so that a killed process leaves none half \
                 written: use `#[repr(u8)]`, or leave `repr` out",
            );
        }
    }
}

/// One that is ill-formed is the compiler's to report.
fn representations(attributes: &[Attribute]) -> impl Iterator<Item = Meta> {
    let parser = Punctuated::<Meta, Token![,]>::parse_terminated;
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("repr"))
        .filter_map(move |attribute| attribute.parse_args_with(parser).ok())
        .flatten()
}
