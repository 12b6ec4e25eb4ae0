//! The parts that need no compiler. What a user sees is tested in the root, with trybuild.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::{File, Item};

use super::{declaration, shared};

fn is_declaration(input: &TokenStream) -> bool {
    let parser = |input: ParseStream<'_>| {
        let is_ahead = declaration::is_ahead(input);
        input.parse::<TokenStream>()?;
        Ok(is_ahead)
    };
    parser.parse2(input.clone()).expect("it can be read")
}

#[test]
fn what_begins_as_an_item_is_one() {
    let items = [
        quote!(
            static A: u8 = 0;
        ),
        quote!(
            pub static A: u8 = 0;
        ),
        quote!(
            #[cfg(unix)]
            pub(crate) static mut A: u8 = 0;
        ),
        quote!(static ref A: u8 = 0;),
        quote!(
            const A: u8 = 0;
        ),
        quote!(let a = 0;),
        quote!(pub A: u8),
    ];
    for item in items {
        assert!(is_declaration(&item), "{item}");
    }
}

#[test]
fn an_expression_is_a_value() {
    let values = [
        quote!(0.0),
        quote!(CONSTANT),
        quote!({ 1 + 1 }),
        quote!(const { 1 + 1 }),
        quote!(static || 1),
        quote!(static move |a: u8| a),
        quote!(
            #[allow(unused)]
            {
                1
            }
        ),
        quote!(match state() {
            _ => 0,
        }),
    ];
    for value in values {
        assert!(!is_declaration(&value), "{value}");
    }
}

#[test]
fn a_value_is_wrapped_in_a_lock() {
    assert_eq!(
        shared(quote!(1 + 2,)).to_string(),
        quote!(::mp::Shared::new(::mp::sync::Mutex::new(1 + 2))).to_string()
    );
}

fn items(input: TokenStream) -> Vec<Item> {
    let file: File = syn::parse2(shared(input)).expect("it is Rust");
    file.items
}

#[test]
fn a_static_keeps_its_attributes_and_its_registration_has_their_conditions() {
    let items = items(quote! {
        /// Docs.
        #[cfg(unix)]
        #[deprecated]
        pub(crate) static r#A: u8 = 1;
    });
    let [Item::Static(declared), Item::Const(registration)] = &items[..] else {
        panic!("it is a static and its registration");
    };
    assert_eq!(declared.attrs.len(), 3);
    assert_eq!(
        declared.vis.to_token_stream().to_string(),
        quote!(pub(crate)).to_string()
    );
    assert!(
        declared
            .expr
            .to_token_stream()
            .to_string()
            .contains(r#""A""#)
    );
    let conditions: Vec<_> = registration
        .attrs
        .iter()
        .map(|attribute| attribute.to_token_stream().to_string())
        .collect();
    let expected = [quote!(#[cfg(unix)]), quote!(#[allow(deprecated)])];
    assert_eq!(conditions, expected.map(|attribute| attribute.to_string()));
}

#[test]
fn a_static_with_an_error_is_there_all_the_same() {
    let declarations = [
        quote!(
            static mut A: u8 = 0;
        ),
        quote!(
            const A: u8 = 0;
        ),
        quote!(static A = 0;),
        quote!(
            static A: u8;
        ),
        quote!(static A: u8 = 0),
        quote!(
            fn f() {}
            static A: u8 = 0;
        ),
        quote!(static: u8 = 0; static A: u8 = 0;),
    ];
    for declaration in declarations {
        let items = items(declaration.clone());
        let statics = items.iter().filter(|item| matches!(item, Item::Static(_)));
        assert_eq!(statics.count(), 1, "{declaration}");
        let expansion = quote!(#(#items)*).to_string();
        assert_eq!(
            expansion.matches("compile_error").count(),
            1,
            "{declaration}"
        );
    }
}
