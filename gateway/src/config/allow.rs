//! `[export.allow]`: the rules of an export.

use std::str::FromStr;

use nix::unistd::{Group, User};
use toml::Spanned;
use toml::de::DeValue;

use super::section::{At, Context, Section};
use crate::rules::Rules;

/// Rules, and where each key is.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    pub(super) rules: Rules,
    pub(super) keys: Vec<(&'static str, usize)>,
}

/// All keys.
const KEYS: [&str; 5] = ["uid", "gid", "address", "certificate", "psk"];

/// Pairs that no client has both of, and why.
const EXCLUSIVE: [(&str, &str, &str); 3] = [
    ("uid", "address", "clients on Unix sockets have no address, and others no user"),
    ("gid", "address", "clients on Unix sockets have no address, and others no group"),
    ("certificate", "psk", "a client proves who it is by a certificate or by a key"),
];

/// Largest user or group; the number above it stands for none (chown(2)).
const ID_MAX: u32 = u32::MAX - 1;

pub(super) fn read(mut section: Section<'_>) -> Allowed {
    let context = section.context;
    let rules = Rules {
        uid: list(&mut section, "uid", |value| id(value, "uid", user, context)),
        gid: list(&mut section, "gid", |value| id(value, "gid", group, context)),
        address: list(&mut section, "address", |value| parsed(value, "address", context)),
        certificate: list(&mut section, "certificate", |value| parsed(value, "certificate", context)),
        psk: list(&mut section, "psk", |value| psk(value, context)),
    };
    let mut keys: Vec<(&str, usize)> =
        KEYS.into_iter().filter_map(|key| section.key(key).map(|at| (key, at))).collect();
    keys.sort_by_key(|(_, at)| *at);
    for (one, other, reason) in EXCLUSIVE {
        let both: Vec<usize> =
            keys.iter().filter(|(key, _)| *key == one || *key == other).map(|(_, at)| *at).collect();
        if let [_, second] = both[..] {
            let text = format!("no client can match both '{one}' and '{other}': {reason}");
            context.mistakes.add_with_hint(second, text, "leave one of them out");
        }
    }
    section.finish();
    Allowed { rules, keys }
}

/// Every value of a list that is right.
fn list<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parse: impl Fn(&Spanned<DeValue<'_>>) -> Option<T>,
) -> Option<Vec<T>> {
    Some(section.list(key)?.value.iter().filter_map(parse).collect())
}

/// A value that must be text.
fn text(value: &Spanned<DeValue<'_>>, key: &str, context: Context<'_>) -> Option<At<String>> {
    match value.get_ref() {
        DeValue::String(text) => Some(At { at: value.span().start, value: text.to_string() }),
        _ => context.wrong_type(key, "a list of texts in quotes", value),
    }
}

fn parsed<T: FromStr<Err = String>>(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    context: Context<'_>,
) -> Option<T> {
    let text = text(value, key, context)?;
    text.value
        .parse()
        .map_err(|reason| {
            let shown = &text.value;
            context.mistakes.add(text.at, format!("key '{key}' cannot have '{shown}': {reason}"));
        })
        .ok()
}

fn psk(value: &Spanned<DeValue<'_>>, context: Context<'_>) -> Option<String> {
    let text = text(value, "psk", context)?;
    // A file of keys has lines of USER:KEY.
    if text.value.is_empty() || text.value.contains([':', '\n']) {
        let shown = &text.value;
        context.mistakes.add(text.at, format!("key 'psk' cannot have '{shown}': no user is called so"));
        return None;
    }
    Some(text.value)
}

/// A number, or a name that this machine knows.
fn id(
    value: &Spanned<DeValue<'_>>,
    key: &str,
    find: fn(&str) -> Result<Option<u32>, nix::Error>,
    context: Context<'_>,
) -> Option<u32> {
    let at = value.span().start;
    match value.get_ref() {
        DeValue::Integer(number) => {
            let id = u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|id| *id <= ID_MAX);
            if id.is_none() {
                let text = format!("key '{key}' cannot have {number}: it is not between 0 and {ID_MAX}");
                context.mistakes.add(at, text);
            }
            id
        }
        DeValue::String(name) => {
            let reason = match find(name) {
                Ok(Some(id)) => return Some(id),
                Ok(None) => "this machine knows nobody of that name".to_owned(),
                Err(cause) => format!("the name cannot be looked up: {cause}"),
            };
            let text = format!("key '{key}' cannot have '{}': {reason}", name);
            context.mistakes.add(at, text);
            None
        }
        _ => context.wrong_type(key, "a list of numbers and names", value),
    }
}

fn user(name: &str) -> Result<Option<u32>, nix::Error> {
    if name.contains('\0') {
        return Ok(None);
    }
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

fn group(name: &str) -> Result<Option<u32>, nix::Error> {
    if name.contains('\0') {
        return Ok(None);
    }
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}
