//! The whole of what stands in `locked!(...)`.

use proc_macro2::{Group, Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::parse::ParseStream;
use syn::parse::discouraged::Speculative as _;
use syn::{Expr, Token, token};

use super::binding::Binding;
use crate::errors::Errors;
use crate::place::generated_at;

pub(super) struct Section {
    pub(super) bindings: Vec<Binding>,
    /// A block.
    pub(super) body: TokenStream,
}

const USAGE: &str = "`locked!` takes guarded values, `=>` and a block, such as `locked!(total, \
                     hits = HITS => { *total += *hits; })`";

impl Section {
    /// Fails where it cannot go on. What it gives is whole only if `errors` are none.
    pub(super) fn parse(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<Self> {
        if input.is_empty() {
            return Err(syn::Error::new(Span::call_site(), USAGE));
        }
        let mut bindings: Vec<Binding> = Vec::new();
        let arrow = loop {
            if let Some(arrow) = input.parse::<Option<Token![=>]>>()? {
                break arrow;
            }
            // Before a binding is looked for, in which a block would be an expression.
            check_arrow(input)?;
            if let Some(binding) = Binding::parse(input, errors)? {
                binding.check_name(&bindings, errors);
                bindings.push(binding);
            }
            if !input.peek(Token![=>]) {
                check_arrow(input)?;
                parse_comma(input)?;
            }
        };
        if bindings.is_empty() && errors.is_empty() {
            errors.at(
                arrow,
                "`locked!` takes at least one guarded value: name it before the `=>`",
            );
        }
        let body = parse_body(input, arrow)?;
        Ok(Self { bindings, body })
    }
}

fn check_arrow(input: ParseStream<'_>) -> syn::Result<()> {
    if input.is_empty() {
        let message = "write `=>` and a block after the guarded values";
        Err(syn::Error::new(Span::call_site(), message))
    } else if input.peek(token::Brace) {
        Err(input.error("write `=>` before the block"))
    } else {
        Ok(())
    }
}

fn parse_comma(input: ParseStream<'_>) -> syn::Result<()> {
    if input.parse::<Option<Token![,]>>()?.is_none() {
        return Err(input.error("write `,` before the next guarded value, or `=>` before the body"));
    }
    Ok(())
}

/// The body as a block, whose braces are generated.
///
/// The lint about braces around an expression leaves such a block alone, and it has the edition of
/// this crate, which `expand` relies on.
fn parse_body(input: ParseStream<'_>, arrow: Token![=>]) -> syn::Result<TokenStream> {
    if input.is_empty() {
        return Err(syn::Error::new_spanned(
            arrow,
            "write a block after `=>`: it runs while the locks are held",
        ));
    }
    let body = match parse_block(input) {
        Some(mut block) => {
            block.set_span(generated_at(block.span()));
            block.into_token_stream()
        }
        None => {
            let body: Expr = input.parse()?;
            // In parentheses it is no statement, which would end after the braces of a `match`.
            quote_spanned!(Span::mixed_site()=> { (#body) })
        }
    };
    input.parse::<Option<Token![,]>>()?;
    if !input.is_empty() {
        let rest: TokenStream = input.parse()?;
        return Err(syn::Error::new_spanned(
            rest,
            "`locked!` takes one block, and nothing after it",
        ));
    }
    Ok(body)
}

/// The block, if it is all there is. It is not looked into, so that an editor has it while it is
/// half written.
fn parse_block(input: ParseStream<'_>) -> Option<Group> {
    let ahead = input.fork();
    if !ahead.peek(token::Brace) {
        return None;
    }
    let block = ahead.parse().ok()?;
    let rest = ahead.fork();
    rest.parse::<Option<Token![,]>>().ok()?;
    if !rest.is_empty() {
        return None;
    }
    input.advance_to(&ahead);
    Some(block)
}
