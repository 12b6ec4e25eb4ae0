//! One static, as the user writes it.

use proc_macro2::{TokenStream, TokenTree};
use syn::parse::ParseStream;
use syn::{Attribute, Expr, Generics, Ident, Token, Type, Visibility, token};

use crate::errors::Errors;

/// A static of which the parts that are missing are errors, which stand where the parts should.
pub(super) struct Declaration {
    pub(super) attributes: Vec<Attribute>,
    pub(super) visibility: Visibility,
    pub(super) keyword: Token![static],
    pub(super) name: Ident,
    pub(super) ty: syn::Result<Type>,
    pub(super) value: syn::Result<Expr>,
}

/// Whether what comes is meant for an item, and is not an expression.
pub(super) fn is_ahead(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    if ahead.call(Attribute::parse_outer).is_err() {
        return false;
    }
    match ahead.parse() {
        Ok(Visibility::Inherited) => {}
        _ => return true,
    }
    // The others are a closure and a block.
    let is_static = ahead.peek(Token![static])
        && !ahead.peek2(Token![|])
        && !ahead.peek2(Token![||])
        && !ahead.peek2(Token![move]);
    let is_const = ahead.peek(Token![const]) && !ahead.peek2(token::Brace);
    is_static || is_const || is_keyword_of_item(&ahead)
}

fn is_keyword_of_item(input: ParseStream<'_>) -> bool {
    input.peek(Token![let])
        || input.peek(Token![fn])
        || input.peek(Token![struct])
        || input.peek(Token![enum])
        || input.peek(Token![type])
        || input.peek(Token![use])
}

impl Declaration {
    /// Takes the next static from the input, and what stands there in its stead if it is none.
    pub(super) fn parse_next(input: ParseStream<'_>, errors: &mut Errors) -> Option<Self> {
        match Self::parse(input, errors) {
            Ok(declaration) => Some(declaration),
            Err(error) => {
                errors.push(error);
                skip_past_end(input);
                None
            }
        }
    }

    fn parse(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let keyword = parse_keyword(input, errors)?;
        parse_modifiers(input, errors)?;
        let name: Ident = input.parse()?;
        parse_generics(input, errors)?;
        let ty = parse_type(input, &name)?;
        let value = parse_value(input, &name)?;
        if input.parse::<Option<Token![;]>>()?.is_none() {
            match &value {
                Ok(value) => errors.at(value, END),
                // That there is no value is error enough.
                Err(_) => skip_past_end(input),
            }
        }
        Ok(Self {
            attributes,
            visibility,
            keyword,
            name,
            ty,
            value,
        })
    }
}

const END: &str = "a static ends with `;`: write it after the value";

fn parse_keyword(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Token![static]> {
    if input.peek(Token![static]) {
        return input.parse();
    }
    let span = input.span();
    if input.peek(Token![const]) {
        input.parse::<Token![const]>()?;
        errors.push(syn::Error::new(
            span,
            "a `const` is a new value wherever it is named: write `static`, which is one value \
             for all processes",
        ));
    } else if input.peek(Token![let]) {
        input.parse::<Token![let]>()?;
        errors.push(syn::Error::new(
            span,
            "what `shared!` declares is there in every process: write `static NAME: Type = \
             value;`, or `let name = mp::shared!(value)?` for a variable",
        ));
    } else {
        return Err(syn::Error::new(
            span,
            "`shared!` declares statics: write `static NAME: Type = value;`",
        ));
    }
    Ok(Token![static](span))
}

fn parse_modifiers(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
    if let Some(mutability) = input.parse::<Option<Token![mut]>>()? {
        errors.at(
            mutability,
            "a shared static is written through its lock: leave `mut` out",
        );
    }
    if let Some(reference) = input.parse::<Option<Token![ref]>>()? {
        errors.at(
            reference,
            "a shared static begins with a constant, not with what its first use makes: leave \
             `ref` out",
        );
    }
    Ok(())
}

fn parse_generics(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<()> {
    if input.peek(Token![<]) {
        let generics: Generics = input.parse()?;
        errors.at(
            generics,
            "a static is one value of one type: leave the parameters out",
        );
    }
    Ok(())
}

fn parse_type(input: ParseStream<'_>, name: &Ident) -> syn::Result<syn::Result<Type>> {
    let colon: Option<Token![:]> = input.parse()?;
    if colon.is_none() || input.peek(Token![=]) || input.peek(Token![;]) {
        return Ok(Err(syn::Error::new_spanned(
            name,
            format_args!("a static has a type: write `{name}: Type = value;`"),
        )));
    }
    input.parse().map(Ok)
}

fn parse_value(input: ParseStream<'_>, name: &Ident) -> syn::Result<syn::Result<Expr>> {
    let equals: Option<Token![=]> = input.parse()?;
    if equals.is_none() || input.peek(Token![;]) || input.is_empty() {
        return Ok(Err(syn::Error::new_spanned(
            name,
            format_args!("a static begins with a value: write `{name}: Type = value;`"),
        )));
    }
    input.parse().map(Ok)
}

/// Goes on behind the next `;`, or behind the braces that end an item without one.
fn skip_past_end(input: ParseStream<'_>) {
    while let Ok(token) = input.parse::<TokenTree>() {
        let is_end = match &token {
            TokenTree::Punct(punct) => punct.as_char() == ';',
            TokenTree::Group(group) => {
                group.delimiter() == proc_macro2::Delimiter::Brace && !input.peek(Token![;])
            }
            _ => false,
        };
        if is_end {
            return;
        }
    }
    // What is left of an input that cannot be read is not to be reported a second time.
    let _: syn::Result<TokenStream> = input.parse();
}
