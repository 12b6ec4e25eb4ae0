//! Which types can be shared in place: every rule is checked here, and every violation reported.

use syn::{Data, DataEnum, DeriveInput, GenericParam, Generics};

use super::{field, representation};
use crate::errors::Errors;

/// As many as one byte can tell apart.
const MAX_VARIANTS: usize = 256;

/// Adds an error for every rule that `item` breaks. It can be expanded only if there was none.
pub(super) fn check(item: &DeriveInput, errors: &mut Errors) {
    check_generics(&item.generics, errors);
    match &item.data {
        Data::Struct(structure) => {
            representation::check_struct(&item.attrs, errors);
            for field in &structure.fields {
                field::check(&field.ty, errors);
            }
        }
        Data::Enum(enumeration) => {
            representation::check_enum(&item.attrs, errors);
            check_const_parameters(&item.generics, errors);
            check_variants(item, enumeration, errors);
        }
        Data::Union(union) => errors.at(
            union.union_token,
            "nothing in a union says which of its fields holds a value: use a struct, with an \
             enum without fields that says it",
        ),
    }
}

fn check_generics(generics: &Generics, errors: &mut Errors) {
    for parameter in &generics.params {
        if let GenericParam::Lifetime(parameter) = parameter {
            errors.at(
                &parameter.lifetime,
                "what processes share can borrow from none of them: hold the values themselves, \
                 and leave the lifetime out",
            );
        }
    }
}

/// Whether an enum is one byte is asserted once, outside of any parameters. Without fields, it has
/// no use for another parameter.
fn check_const_parameters(generics: &Generics, errors: &mut Errors) {
    for parameter in generics.const_params() {
        errors.at(
            parameter,
            "an enum without fields holds nothing that depends on a parameter: leave it out",
        );
    }
}

fn check_variants(item: &DeriveInput, enumeration: &DataEnum, errors: &mut Errors) {
    let variants = &enumeration.variants;
    if variants.is_empty() {
        errors.at(
            &item.ident,
            "an enum without variants has no value to share: give it one, or leave the derive out",
        );
    }
    let mut fields = variants.iter().flat_map(|variant| &variant.fields);
    if let Some(first) = fields.next() {
        errors.at(
            first,
            "a process killed in the middle of a write could leave the tag of one variant with \
             the data of another: use a struct of an enum without fields and the data beside it",
        );
    }
    if let Some(surplus) = variants.iter().nth(MAX_VARIANTS) {
        errors.at(
            &surplus.ident,
            format_args!(
                "an enum in shared memory is one byte, so that a killed process leaves none half \
                 written: it has at most {MAX_VARIANTS} variants"
            ),
        );
    }
}
