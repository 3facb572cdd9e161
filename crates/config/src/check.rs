//! What settings mean together: checks across keys, and the files that they name.

use std::path::Path;

use crate::allowlist::Allowlist;
use crate::choice::RewriteL2;
use crate::error::{ConfigError, Warning};
use crate::nat::{NatMatch, NatProtocol, NatRule, NatTarget, check_nat_limits};
use crate::nat_file::load_nat_rules;
use crate::settings::{Key, Settings};
use crate::value::InterfaceName;

impl Settings {
    /// Checks that the settings fit together.
    pub(crate) fn check(&self, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
        if self.interface.is_some() && self.interface == self.target_interface {
            return Err(ConfigError::Conflict(format!(
                "{} and {} are the same interface: nothing may leave where the mirror arrives",
                self.given(Key::Interface),
                self.given(Key::TargetInterface),
            )));
        }
        self.check_nat()?;
        self.check_next_hop()?;
        if self.entries.contains_key(&Key::EnableAllowlist)
            && self.entries.contains_key(&Key::AllowlistFile)
        {
            match (self.enable_allowlist, &self.allowlist_file) {
                (true, None) => warnings.push(Warning::AllowlistEmpty),
                (false, Some(_)) => warnings.push(Warning::AllowlistOff),
                _ => {}
            }
        }
        Ok(())
    }

    fn check_nat(&self) -> Result<(), ConfigError> {
        let lacks = |given: Key, missing: Key| {
            ConfigError::Conflict(format!(
                "{} needs {missing}, which is not set (allowed: {})",
                self.given(given),
                missing.allowed()
            ))
        };
        match (self.nat_ip, self.nat_port, self.source_port) {
            (None, None, None) | (Some(_), _, Some(_)) => Ok(()),
            (Some(_), _, None) => Err(lacks(Key::NatIp, Key::SourcePort)),
            (None, _, Some(_)) => Err(lacks(Key::SourcePort, Key::NatIp)),
            (None, Some(_), None) => Err(lacks(Key::NatPort, Key::NatIp)),
        }
    }

    fn check_next_hop(&self) -> Result<(), ConfigError> {
        if self.next_hop.is_none() || self.rewrite_l2 == RewriteL2::All {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "{} needs {key}=all, and {key} is {} ({}): only under all are untranslated frames \
             addressed anew",
            self.given(Key::NextHop),
            self.rewrite_l2,
            self.origin(Key::RewriteL2).describe(Key::RewriteL2),
            key = Key::RewriteL2,
        )))
    }

    /// A key with its value and where that was given.
    fn given(&self, key: Key) -> String {
        let text = self.entries.get(&key).and_then(|entry| entry.text.as_deref());
        format!("{key}={} ({})", text.unwrap_or_default(), self.origin(key).describe(key))
    }

    /// The ingress interface.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if it isn't set.
    pub fn ingress(&self) -> Result<&InterfaceName, ConfigError> {
        self.interface.as_ref().ok_or(ConfigError::Missing(Key::Interface))
    }

    /// The egress interface.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if it isn't set.
    pub fn egress(&self) -> Result<&InterfaceName, ConfigError> {
        self.target_interface.as_ref().ok_or(ConfigError::Missing(Key::TargetInterface))
    }

    /// The rule that NAT_IP, NAT_PORT and SOURCE_PORT give, if they are set: TCP and UDP to
    /// SOURCE_PORT goes to NAT_IP, port NAT_PORT (SOURCE_PORT without it).
    pub fn nat_rule(&self) -> Option<NatRule> {
        let (address, matched) = (self.nat_ip?, self.source_port?);
        Some(NatRule {
            protocol: NatProtocol::Any,
            port: matched,
            destination: None,
            vni: None,
            targets: vec![NatTarget { address, port: self.nat_port.unwrap_or(matched) }.into()],
        })
    }

    /// All NAT rules: the one of [`Settings::nat_rule`] first, then those of NAT_RULES_FILE, which
    /// is read now.
    ///
    /// # Errors
    /// The file can't be read or is refused, or a rule in it matches the same packets as NAT_IP's.
    pub fn nat_rules(&self) -> Result<Vec<NatRule>, ConfigError> {
        let single = self.nat_rule();
        let Some(path) = &self.nat_rules_file else { return Ok(single.into_iter().collect()) };
        let from_file = load_nat_rules(path)?;
        merge(single, from_file, path)
    }

    /// The allowlist of ALLOWLIST_FILE, which is read now, or `None` if that isn't set.
    ///
    /// # Errors
    /// The file can't be read or is refused.
    pub fn allowlist(&self) -> Result<Option<Allowlist>, ConfigError> {
        self.allowlist_file.as_deref().map(Allowlist::load).transpose()
    }
}

fn merge(
    single: Option<NatRule>,
    from_file: Vec<NatRule>,
    path: &Path,
) -> Result<Vec<NatRule>, ConfigError> {
    let Some(single) = single else { return Ok(from_file) };
    let same = from_file.iter().position(|rule| NatMatch::of(rule) == NatMatch::of(&single));
    if let Some(index) = same {
        let problem = format!(
            "rules[{index}] matches the same packets as the rule that NAT_IP and SOURCE_PORT give \
             ({single})"
        );
        return Err(ConfigError::file(path, problem));
    }
    let rules: Vec<_> = [single].into_iter().chain(from_file).collect();
    check_nat_limits(&rules).map_err(|problem| {
        ConfigError::file(path, format!("with the rule of NAT_IP: {problem}"))
    })?;
    Ok(rules)
}

#[cfg(test)]
mod tests;
