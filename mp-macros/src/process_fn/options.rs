//! What stands in the parentheses of `#[process_fn(...)]`.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Lit, LitStr, Token};

use super::timeout::Timeout;
use crate::errors::Errors;

/// The options of a process function. One that was ill-formed is reported and counts as absent.
#[derive(Default)]
pub(super) struct Options {
    pub(super) timeout: Option<Timeout>,
    pub(super) retries: Option<u32>,
    pub(super) name: Option<LitStr>,
}

impl Options {
    pub(super) fn parse(arguments: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let mut seen = Vec::new();
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                let setting = Setting::parse(input)?;
                if seen.contains(&setting.option) {
                    errors.at(
                        &setting.option,
                        format_args!("`{}` is given twice: remove one", setting.option),
                    );
                } else {
                    options.apply(&setting, errors);
                    seen.push(setting.option);
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        };
        if let Err(error) = parser.parse2(arguments) {
            errors.push(error);
        }
        options
    }

    fn apply(&mut self, setting: &Setting, errors: &mut Errors) {
        let option = setting.option.to_string();
        let result = match option.as_str() {
            "timeout" => setting
                .timeout()
                .map(|timeout| self.timeout = Some(timeout)),
            "retries" => setting
                .retries()
                .map(|retries| self.retries = Some(retries)),
            "name" => setting.name().map(|name| self.name = Some(name)),
            _ => Err(syn::Error::new_spanned(
                &setting.option,
                format!(
                    "there is no option `{option}`: the options are `timeout`, `retries` and `name`"
                ),
            )),
        };
        if let Err(error) = result {
            errors.push(error);
        }
    }
}

/// One `option = value`, as written.
struct Setting {
    option: Ident,
    equals: Option<Token![=]>,
    /// Everything up to the next comma.
    value: TokenStream,
}

impl Setting {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if !input.peek(Ident::peek_any) {
            return Err(input.error(
                "options are written `timeout = \"2s\"`, `retries = 2` and \
                 `name = \"imaging.resize\"`, with commas between them",
            ));
        }
        let option = input.call(Ident::parse_any)?;
        let equals = input.parse()?;
        let mut value = TokenStream::new();
        while !input.is_empty() && !input.peek(Token![,]) {
            if input.peek(Token![=]) {
                return Err(
                    input.error("options are separated by commas: write one before this one")
                );
            }
            value.extend([input.parse::<TokenTree>()?]);
        }
        Ok(Self {
            option,
            equals,
            value,
        })
    }

    fn timeout(&self) -> syn::Result<Timeout> {
        let Some(Lit::Str(text)) = self.literal() else {
            return Err(self.expected(
                "a string of a number and a unit (ns, us, ms, s, m or h): `timeout = \"2s\"`",
            ));
        };
        Timeout::parse(&text.value()).map_err(|mistake| syn::Error::new_spanned(text, mistake))
    }

    fn retries(&self) -> syn::Result<u32> {
        let retries = match self.literal() {
            Some(Lit::Int(number)) => number.base10_parse().ok(),
            _ => None,
        };
        retries.ok_or_else(|| self.expected("a whole number from 0 to 4294967295: `retries = 2`"))
    }

    fn name(&self) -> syn::Result<LitStr> {
        let Some(Lit::Str(name)) = self.literal() else {
            return Err(self.expected("a string: `name = \"imaging.resize\"`"));
        };
        let text = name.value();
        if text.is_empty() {
            Err(self
                .expected("a string that is not empty: leave it out to use the function's path"))
        } else if text.contains('\0') {
            Err(self.expected("a string without NUL characters"))
        } else {
            Ok(name)
        }
    }

    fn literal(&self) -> Option<Lit> {
        self.equals
            .and_then(|_| syn::parse2(self.value.clone()).ok())
    }

    /// An error at the value, or at the option where there is none.
    fn expected(&self, what: &str) -> syn::Error {
        let Self {
            option,
            equals,
            value,
        } = self;
        let place = if equals.is_some() && !value.is_empty() {
            value.clone()
        } else {
            quote!(#option #equals #value)
        };
        syn::Error::new_spanned(place, format!("`{option}` takes {what}"))
    }
}
