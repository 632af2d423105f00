//! A tenant may write any kubeconfig into a Secret. None of them makes the controller send its own credentials anywhere,
//! read a file or go where the server sends it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::harness::wait::asked_until;
use crate::harness::{Controller, Recorder, Tenant, manifests};
use crate::world::{PATIENCE, World, closed, said};

const TENANTS: &str = "the-tenants-own-token";

fn kubeconfig(server: &str, certificate: &str, user: &str) -> String {
    let ca = STANDARD.encode(certificate);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: t\n\
         contexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n\
         clusters: [{{name: t, cluster: {{server: \"{server}\", certificate-authority-data: \"{ca}\"}}}}]\n\
         users: [{{name: t, user: {user}}}]\n"
    )
}

/// A token that has the controller's rights.
async fn controllers_token(tenant: &Tenant) -> String {
    let account = json!({"metadata": {"name": "controller"}});
    let accounts: Api<ServiceAccount> = Api::namespaced(tenant.management.clone(), &tenant.namespace);
    accounts.create(&PostParams::default(), &serde_json::from_value(account).unwrap()).await.unwrap();
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("controller-of-{}", tenant.namespace)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "5spot-controller"},
        "subjects": [{"kind": "ServiceAccount", "name": "controller", "namespace": tenant.namespace}],
    });
    manifests::install(&tenant.management, vec![binding]).await.unwrap();
    let request = TokenRequest {
        spec: TokenRequestSpec { audiences: vec![], ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request("controller", &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token
}

/// Users that would make the controller read a file, run a program or be somebody else, and what is said of each.
fn refused_users(path: &str, script: &str) -> Vec<(String, &'static str)> {
    let exec = format!(
        "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: [\"{script}\"], interactiveMode: Never}}}}"
    );
    let token = |beside: &str| format!("{{token: {TENANTS}, {beside}}}");
    vec![
        (format!("{{tokenFile: \"{path}\"}}"), "tokenFile names a file"),
        (token(&format!("tokenFile: \"{path}\"")), "tokenFile names a file"),
        (
            format!("{{client-key: \"{path}\", client-certificate: \"{path}\"}}"),
            "client-certificate names a file",
        ),
        (exec, "exec is refused"),
        ("{auth-provider: {name: gcp}}".to_owned(), "auth-provider is refused"),
        (token("as: system:admin, as-groups: [system:masters]"), "as is refused"),
        (token("as-uid: \"0\""), "as-uid is refused"),
        (token("as-groups: [system:masters]"), "as-groups is refused"),
        (token("as-user-extra: {scopes: [all]}"), "as-user-extra is refused"),
        (token("on-behalf-of: system:admin"), "unknown field on-behalf-of"),
    ]
}

/// The same for what is said of the cluster: read a file, trust anybody, go by somebody else, or speak in the clear.
fn refused_clusters(server: &str, ca: &str, path: &str, beyond: &str) -> Vec<(String, &'static str)> {
    let accepted = kubeconfig(server, ca, &format!("{{token: {TENANTS}}}"));
    let with = |field: String| accepted.replace("server:", &format!("{field}, server:"));
    let instead = |field: String| {
        accepted.replace(&format!("certificate-authority-data: \"{}\"", STANDARD.encode(ca)), &field)
    };
    vec![
        (accepted.replace("https:", "http:"), "not https"),
        (with(format!("proxy-url: \"{beyond}\"")), "proxy-url"),
        (with("tls-everything: true".to_owned()), "unknown field tls-everything"),
        (instead(format!("certificate-authority: \"{path}\"")), "certificate-authority names a file"),
        (instead("insecure-skip-tls-verify: true".to_owned()), "insecure-skip-tls-verify is refused"),
    ]
}

#[tokio::test]
async fn no_kubeconfig_of_a_tenant_gets_the_controllers_own_token() {
    let (tenant, user, _) = World::prepare("confused").await;
    let token = controllers_token(&tenant).await;
    let plane = tenant.management_plane();
    let authority = plane.ground().authority.certificate();
    let own = kubeconfig(plane.server(), &authority, &format!("{{token: {token}}}"));
    let file = tenant.planes().dir().join(format!("{}.token", tenant.namespace));
    std::fs::write(&file, &token).unwrap();
    let setup = Controller::setup(tenant.planes(), &own).watch_namespace(&tenant.namespace);
    let world = World::with(tenant.clone(), user, setup.env("RUST_LOG", "info,fivespot=debug").start());

    let beyond = Recorder::start(None).await;
    let plain = Recorder::start(None).await;
    let redirecting = Recorder::start(Some(beyond.server())).await;
    let name = tenant.unique("ws");
    tenant.put_kubeconfig("own", "{}").await;
    world.create(&name, json!({"schedule": closed(), "kubeconfigSecretRef": {"name": "own"}})).await;
    world.until(&name, "refused", |sm| said(sm, "WorkloadReachable").0 == "KubeconfigInvalid").await;

    // What would make it read a file, run a program or speak in the clear is refused before anybody is called.
    let (server, ca) = (plain.server(), plain.certificate());
    let path = file.display();
    let script = tenant.planes().dir().join(format!("{}.ran", tenant.namespace));
    let (file, beyonds) = (path.to_string(), beyond.server());
    let users = refused_users(&file, &script.display().to_string()).into_iter();
    let users = users.map(|(user, words)| (kubeconfig(&server, &ca, &user), words));
    for (text, words) in users.chain(refused_clusters(&server, &ca, &file, &beyonds)) {
        // What was said of the one before is not taken for an answer.
        tenant.put_kubeconfig("own", "{}").await;
        world.until(&name, "cleared", |sm| said(sm, "WorkloadReachable").1.contains("current-context")).await;
        tenant.put_kubeconfig("own", &text).await;
        let told = world.until(&name, words, |sm| said(sm, "WorkloadReachable").1.contains(words)).await;
        assert_eq!(said(&told, "WorkloadReachable").0, "KubeconfigInvalid");
    }
    assert_eq!((plain.connections(), beyond.connections()), (0, 0));
    assert!(!script.exists(), "a program of the tenant's ran");

    // What is accepted is called with the tenant's token and no other, and where it sends us nobody goes.
    for recorder in [&plain, &redirecting] {
        let accepted =
            kubeconfig(&recorder.server(), &recorder.certificate(), &format!("{{token: {TENANTS}}}"));
        tenant.put_kubeconfig("own", &accepted).await;
        world.until(&name, "of no use", |sm| said(sm, "WorkloadReachable").0 == "Unreachable").await;
        asked_until("called thrice", PATIENCE, async || recorder.heads().len() >= 3).await;
        for head in recorder.heads() {
            assert!(head.contains(TENANTS) && head.contains("/api/v1/nodes"), "{head}");
            assert!(!head.contains(&token), "the controller's own token: {head}");
        }
    }
    assert_eq!(beyond.connections(), 0, "a redirect was followed: {:?}", beyond.heads());
    assert!(!world.controller.log().contains(&token) && !world.controller.log().contains(TENANTS));
}
