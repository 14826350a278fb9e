//! Old files stay readable.
