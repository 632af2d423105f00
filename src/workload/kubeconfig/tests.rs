use serde_json::json;

use super::*;

fn authority() -> String {
    STANDARD.encode(rcgen::generate_simple_self_signed(["workload".to_owned()]).unwrap().cert.pem())
}

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["user".to_owned()]).unwrap();
    (STANDARD.encode(made.cert.pem()), STANDARD.encode(made.signing_key.serialize_pem()))
}

fn file(cluster: &Value, user: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    })
}

fn cluster() -> Value {
    json!({"server": "https://10.0.0.1:6443", "certificate-authority-data": authority()})
}

fn user() -> Value {
    json!({"token": "abc.def"})
}

/// JSON is YAML.
fn parsed(file: &Value) -> Result<Accepted, KubeconfigFault> {
    parse(&file.to_string())
}

fn with(mut stanza: Value, field: &str, value: Value) -> Value {
    stanza[field] = value;
    stanza
}

fn cluster_fault(field: &str, value: Value) -> KubeconfigFault {
    parsed(&file(&with(cluster(), field, value), &user())).unwrap_err()
}

fn user_fault(field: &str, value: Value) -> KubeconfigFault {
    parsed(&file(&cluster(), &with(user(), field, value))).unwrap_err()
}

#[test]
fn a_token_over_https_is_accepted() {
    let accepted = parsed(&file(&cluster(), &user())).unwrap();
    assert!(accepted.identity == Identity::Token("abc.def".to_owned()));
    assert_eq!(accepted.server, "https://10.0.0.1:6443/");
}

#[tokio::test]
async fn an_inline_certificate_is_accepted_and_makes_a_client() {
    let (certificate, key) = pair();
    let user = json!({"client-certificate-data": certificate, "client-key-data": key});
    let text = serde_saphyr::to_string(&file(&cluster(), &user)).unwrap();
    parse(&text).unwrap().client(&calls()).unwrap();
}

#[test]
fn a_certificate_with_another_ones_key_makes_no_client() {
    let user = json!({"client-certificate-data": pair().0, "client-key-data": pair().1});
    let accepted = parsed(&file(&cluster(), &user)).unwrap();
    assert_eq!(accepted.client(&calls()).err(), Some(KubeconfigFault::CertificateUnusable));
}

#[test]
fn the_client_is_made_of_the_accepted_fields_alone() {
    let config = parsed(&file(&cluster(), &user())).unwrap().config();
    assert!(config.proxy_url.is_none() && config.root_cert_file.is_none() && !config.accept_invalid_certs);
    assert!(!config.default_retry && config.headers.iter().all(|(name, _)| name == "user-agent"));
    assert_eq!(config.root_cert.unwrap().len(), 1);
}

#[test]
fn wrapped_base64_and_empty_fields_are_accepted() {
    let data = authority();
    let (first, second) = data.split_at(60);
    let cluster = with(cluster(), "certificate-authority-data", json!(format!("{first}\n{second}\n")));
    let cluster = with(with(cluster, "insecure-skip-tls-verify", json!(false)), "proxy-url", json!(""));
    let user = with(with(user(), "as-groups", json!([])), "exec", Value::Null);
    parsed(&file(&cluster, &user)).unwrap();
}

#[test]
fn a_server_name_of_its_own_is_accepted() {
    let named = with(cluster(), "tls-server-name", json!("kubernetes"));
    assert_eq!(parsed(&file(&named, &user())).unwrap().server_name.as_deref(), Some("kubernetes"));
    assert_eq!(cluster_fault("tls-server-name", json!("a b")), KubeconfigFault::TlsServerNameMalformed);
}

#[test]
fn every_refused_cluster_field_is_its_own_fault() {
    for (field, value, fault) in [
        ("certificate-authority", json!("/ca.crt"), KubeconfigFault::CertificateAuthorityFile),
        ("insecure-skip-tls-verify", json!(true), KubeconfigFault::InsecureSkipTlsVerify),
        ("proxy-url", json!("http://proxy:3128"), KubeconfigFault::Proxy),
        ("server", json!("http://10.0.0.1"), KubeconfigFault::NotHttps),
        ("server", json!("10.0.0.1:6443"), KubeconfigFault::ServerMalformed),
        ("server", json!("https://u:p@10.0.0.1"), KubeconfigFault::ServerMalformed),
        ("server", json!(""), KubeconfigFault::NoServer),
        ("certificate-authority-data", Value::Null, KubeconfigFault::NoCertificateAuthority),
        ("certificate-authority-data", json!("%"), KubeconfigFault::CertificateAuthorityMalformed),
        ("certificate-authority-data", json!("bm90IFBFTQ=="), KubeconfigFault::CertificateAuthorityMalformed),
        ("certificate-authority-data", json!(7), KubeconfigFault::NotText("certificate-authority-data")),
        ("color", json!("red"), KubeconfigFault::UnknownClusterField("color".to_owned())),
    ] {
        assert_eq!(cluster_fault(field, value.clone()), fault, "{field}: {value}");
    }
}

#[test]
fn every_refused_user_field_is_its_own_fault() {
    for (field, value, fault) in [
        ("client-certificate", json!("/c"), KubeconfigFault::ClientCertificateFile),
        ("client-key", json!("/k"), KubeconfigFault::ClientKeyFile),
        (
            "tokenFile",
            json!("/var/run/secrets/kubernetes.io/serviceaccount/token"),
            KubeconfigFault::TokenFile,
        ),
        ("exec", json!({"command": "aws"}), KubeconfigFault::Exec),
        ("auth-provider", json!({"name": "gcp"}), KubeconfigFault::AuthProvider),
        ("username", json!("admin"), KubeconfigFault::BasicAuth),
        ("password", json!("secret"), KubeconfigFault::BasicAuth),
        ("as", json!("root"), KubeconfigFault::Impersonation("as")),
        ("as-uid", json!("0"), KubeconfigFault::Impersonation("as-uid")),
        ("as-groups", json!(["system:masters"]), KubeconfigFault::Impersonation("as-groups")),
        ("as-user-extra", json!({"k": ["v"]}), KubeconfigFault::Impersonation("as-user-extra")),
        ("client-certificate-data", json!("x"), KubeconfigFault::TwoCredentials),
        ("token", json!("a\nb"), KubeconfigFault::TokenMalformed),
        ("token", json!(""), KubeconfigFault::NoCredentials),
        ("shell", json!("sh"), KubeconfigFault::UnknownUserField("shell".to_owned())),
    ] {
        assert_eq!(user_fault(field, value.clone()), fault, "{field}: {value}");
    }
}

#[test]
fn half_a_certificate_or_a_mangled_one_is_refused() {
    let (certificate, key) = pair();
    for (user, fault) in [
        (json!({"client-certificate-data": certificate}), KubeconfigFault::HalfCertificate),
        (json!({"client-key-data": key}), KubeconfigFault::HalfCertificate),
        (
            json!({"client-certificate-data": key, "client-key-data": certificate}),
            KubeconfigFault::CertificateMalformed,
        ),
    ] {
        assert_eq!(parsed(&file(&cluster(), &user)).unwrap_err(), fault);
    }
}

#[test]
fn names_that_lead_nowhere_are_refused() {
    for (pointer, fault) in [
        ("/current-context", KubeconfigFault::DanglingContext),
        ("/contexts/0/context/cluster", KubeconfigFault::DanglingCluster),
        ("/contexts/0/context/user", KubeconfigFault::DanglingUser),
    ] {
        let mut file = file(&cluster(), &user());
        *file.pointer_mut(pointer).unwrap() = json!("elsewhere");
        assert_eq!(parsed(&file).unwrap_err(), fault);
    }
    let mut unset = file(&cluster(), &user());
    unset["current-context"] = Value::Null;
    assert_eq!(parsed(&unset).unwrap_err(), KubeconfigFault::NoCurrentContext);
    let mut twice = file(&cluster(), &user());
    let entry = twice["users"][0].clone();
    twice["users"].as_array_mut().unwrap().push(entry);
    assert_eq!(parsed(&twice).unwrap_err(), KubeconfigFault::Ambiguous);
    assert_eq!(parse("a: [").unwrap_err(), KubeconfigFault::NotKubeconfig);
    assert_eq!(parse("").unwrap_err(), KubeconfigFault::NoCurrentContext);
}

#[test]
fn no_value_of_the_secret_is_shown() {
    let accepted = parsed(&file(&cluster(), &user())).unwrap();
    assert!(!format!("{accepted:?}").contains("abc.def"));
    let mangled = file(&cluster(), &json!({"eyJhbGciOiJSUzI1NiJ9.e30.c2ln": "token"}));
    assert!(!parsed(&mangled).unwrap_err().to_string().contains("eyJ"));
}

#[test]
fn a_rotated_credential_leads_to_the_same_cluster_and_another_ca_does_not() {
    let cluster = cluster();
    let before = parsed(&file(&cluster, &user())).unwrap();
    let rotated = parsed(&file(&cluster, &json!({"token": "new"}))).unwrap();
    assert!(before.is_same_cluster(&rotated) && before != rotated);
    let elsewhere = with(cluster, "certificate-authority-data", json!(authority()));
    assert!(!before.is_same_cluster(&parsed(&file(&elsewhere, &user())).unwrap()));
}

fn calls() -> Calls {
    Calls::register(&mut crate::telemetry::metrics::Registry::default())
}
