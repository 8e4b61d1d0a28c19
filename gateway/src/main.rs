//! Serves block devices of the virtualisation world over NBD.
mod disk;
mod exports;
mod handshake;
mod net;
mod server;
mod session;
mod slab;
mod worker;

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    match server::quick() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
