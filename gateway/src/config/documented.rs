//! Lets a struct tell at run time what its fields are called and what their doc comments say.
//!
//! The doc comments of the config structs are the only place where a setting is explained; `--help`,
//! `config.example.toml` and error messages all quote them.
//!
//! Always true:
//! * a field's name outside is its Rust name with `-` for `_` (what serde's `kebab-case` does too);
//! * doc lines come out as written, without the leading space.

/// One field of a documented struct.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The Rust name.
    pub name: &'static str,
    /// Doc comment, a line each, with the leading space that `///` leaves.
    pub docs: &'static [&'static str],
}

/// Declares a struct as it stands and adds `FIELDS: &[Field]` to it.
macro_rules! documented {
    (
        $(#[$outer:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                pub $field:ident: $type:ty,
            )*
        }
    ) => {
        $(#[$outer])*
        pub struct $name {
            $(
                $(#[doc = $doc])*
                pub $field: $type,
            )*
        }

        impl $name {
            /// Its fields and what their doc comments say.
            pub const FIELDS: &'static [$crate::config::documented::Field] = &[
                $(
                    $crate::config::documented::Field {
                        name: stringify!($field),
                        docs: &[$($doc),*],
                    },
                )*
            ];
        }
    };
}

pub(crate) use documented;
