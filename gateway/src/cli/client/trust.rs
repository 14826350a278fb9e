//! Whom a client command believes over https.
//!
//! ```text
//!   --ca-cert            that CA, and nothing else
//!   AWS_CA_BUNDLE        those CAs; without it, the CAs of this machine
//!   data directory       beside them: the CA of `--tls auto`, the very certificate that --tls-cert names
//! ```
//! The last one is why `minikv health` works inside a container whose certificate names the public host alone: who can
//! read the data directory knows the server's certificate, and needs nobody to vouch for it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_rustls::TlsConnector;

use crate::cli::exit::{Exit, Failure, chain};
use crate::serve::tls::pair::certificates;
use crate::serve::tls::provider;

/// What is believed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Trust {
    /// These CAs instead of the machine's.
    pub ca_cert: Option<PathBuf>,
    /// The CA that a server on this machine made for itself.
    pub own_ca: Option<PathBuf>,
    /// The certificate file of a server on this machine.
    pub server_cert: Option<PathBuf>,
}

impl Trust {
    /// Makes https connections that believe no more than this.
    pub fn connector(&self) -> Result<TlsConnector, Failure> {
        let failed = |cause: &dyn std::error::Error| {
            Failure::new(
                Exit::Failure,
                format!("cannot set up https: {}", chain(cause)),
            )
        };
        let mut roots = RootCertStore::empty();
        match &self.ca_cert {
            Some(path) => {
                let found = certificates("--ca-cert or AWS_CA_BUNDLE", path)
                    .map_err(|cause| Failure::new(Exit::Usage, cause.to_string()))?;
                for cert in found {
                    roots.add(cert).map_err(|cause| failed(&cause))?;
                }
            }
            None => {
                // Some machines have a few that cannot be read; what matters is whether any can.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        for cert in self
            .own_ca
            .iter()
            .flat_map(|path| certificates("ca-cert", path))
            .flatten()
        {
            roots.add(cert).map_err(|cause| failed(&cause))?;
        }
        // A file that is gone or being replaced takes nothing away from the CAs.
        let own = self.server_cert.iter();
        let own = own.filter_map(|path| certificates("tls-cert", path).ok()?.into_iter().next());
        let verifier = Verifier {
            own: own.collect(),
            by_ca: match roots.is_empty() {
                true => None,
                false => Some(
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                        .build()
                        .map_err(|cause| failed(&cause))?,
                ),
            },
        };
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|cause| failed(&cause))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Believes the server's own certificate, byte for byte, and whatever a CA vouches for.
#[derive(Debug)]
struct Verifier {
    own: Vec<CertificateDer<'static>>,
    by_ca: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.contains(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.by_ca {
            Some(ca) => {
                ca.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    // That the server holds the certificate's key is asked in either case.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
