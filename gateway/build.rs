//! Names the crate that builds OpenSSL, so that this crate can ask for how that is done (with kernel TLS). The build
//! itself is the business of `openssl-sys`.

use openssl_src as _;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
