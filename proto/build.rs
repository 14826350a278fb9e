//! Compiles the .proto files with protox, so that nobody needs protoc.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "minikv/row.proto",
        "minikv/entry.proto",
        "minikv/peer.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    // Payloads stay slices of the buffer they arrived in.
    prost_build::Config::new()
        .bytes(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
