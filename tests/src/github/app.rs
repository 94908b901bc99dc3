//! The App: its proofs are verified, its tokens made.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use hyper::StatusCode;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::{APP_ID, APP_KEY_PEM, Body, Shared, failure, now_s, reply};

/// What is wrong with a proof, in GitHub's words.
fn verify(proof: &str) -> Result<(), &'static str> {
    const UNREADABLE: &str = "A JSON web token could not be decoded";
    let mut parts = proof.splitn(3, '.');
    let (Some(head), Some(claims), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(UNREADABLE);
    };
    let signed = format!("{head}.{claims}");
    let json = |part: &str| -> Option<Value> { serde_json::from_slice(&BASE64.decode(part).ok()?).ok() };
    let (head, claims) = json(head).zip(json(claims)).ok_or(UNREADABLE)?;
    let signature = BASE64.decode(signature).map_err(|_| UNREADABLE)?;
    let der: String = APP_KEY_PEM.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::prelude::BASE64_STANDARD.decode(der).expect("the test's key");
    let key = RsaKeyPair::from_der(&der).expect("the test's key");
    let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
    let valid = public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).is_ok();
    if head["alg"] != "RS256" || !valid {
        return Err(UNREADABLE);
    }
    let (issued, ends) = (claims["iat"].as_i64().unwrap_or(i64::MAX), claims["exp"].as_i64().unwrap_or_default());
    if claims["iss"] != APP_ID {
        return Err("Integration must be found");
    }
    if issued > now_s() {
        return Err("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued");
    }
    if ends > now_s() + 600 {
        return Err("'Expiration time' claim ('exp') is too far in the future");
    }
    if ends <= now_s() {
        return Err(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        );
    }
    Ok(())
}

/// `GET /repos/{owner}/{repo}/installation`
pub(super) fn installation(shared: &Shared, proof: &str, exists: bool) -> hyper::Response<Body> {
    if let Err(why) = verify(proof) {
        return failure(StatusCode::UNAUTHORIZED, why, None);
    }
    let state = shared.state();
    match exists && state.installed {
        true => {
            let shown = json!({"id": state.installation, "app_id": 271_828, "repository_selection": "all"});
            reply(StatusCode::OK, &shown)
        }
        false => failure(StatusCode::NOT_FOUND, "Not Found", None),
    }
}

/// `POST /app/installations/{id}/access_tokens`
pub(super) fn access_token(shared: &Shared, proof: &str, installation: &str) -> hyper::Response<Body> {
    if let Err(why) = verify(proof) {
        return failure(StatusCode::UNAUTHORIZED, why, None);
    }
    let mut state = shared.state();
    if installation != state.installation.to_string() || !state.installed {
        return failure(StatusCode::NOT_FOUND, "Not Found", None);
    }
    let token = format!("ghs_app-canary-{}", uuid::Uuid::new_v4().simple());
    let until_s = now_s() + state.lifetime_s;
    state.tokens.insert(token.clone(), until_s);
    let until = jiff::Timestamp::from_second(until_s).expect("a time").to_string();
    let permissions = json!({"contents": "write", "metadata": "read", "pull_requests": "write"});
    let made = json!({"token": token, "expires_at": until, "permissions": permissions, "repository_selection": "all"});
    reply(StatusCode::CREATED, &made)
}
