//! [`Health`]: the health log (Base 2.0c, section 5.16.1.3 "SMART / Health Information").

use std::fmt;

/// Length of the log.
pub(crate) const HEALTH_BYTES: usize = 512;

/// What a controller says of its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    warning: u8,
    kelvin: u16,
    spare_percent: u8,
    used_percent: u8,
    power_on_hours: u128,
    media_errors: u128,
}

impl Health {
    pub(crate) fn decode(log: &[u8; HEALTH_BYTES]) -> Health {
        let long = |at: usize| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&log[at..at + 16]);
            u128::from_le_bytes(bytes)
        };
        Health {
            warning: log[0],
            kelvin: u16::from_le_bytes([log[1], log[2]]),
            spare_percent: log[3],
            used_percent: log[5],
            power_on_hours: long(128),
            media_errors: long(160),
        }
    }
}

/// The bits of the critical warning.
const WARNINGS: [&str; 6] = [
    "little spare left",
    "temperature",
    "degraded",
    "read-only",
    "volatile memory backup failed",
    "persistent memory read-only",
];

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warnings: Vec<&str> =
            (0..WARNINGS.len()).filter(|bit| self.warning >> bit & 1 != 0).map(|bit| WARNINGS[bit]).collect();
        let state =
            if warnings.is_empty() { "ok".into() } else { format!("WARNING: {}", warnings.join(", ")) };
        let celsius = i32::from(self.kelvin) - 273;
        write!(
            f,
            "{state}; {celsius} °C, {} % used, {} % spare, {} hours on, {} media errors",
            self.used_percent, self.spare_percent, self.power_on_hours, self.media_errors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_put_in_words() {
        let mut log = [0; HEALTH_BYTES];
        (log[1], log[2]) = (0x43, 0x01);
        (log[3], log[5], log[128], log[160]) = (100, 2, 9, 1);
        let text = "50 °C, 2 % used, 100 % spare, 9 hours on, 1 media errors";
        assert_eq!(Health::decode(&log).to_string(), format!("ok; {text}"));
        log[0] = 0b1100;
        assert_eq!(Health::decode(&log).to_string(), format!("WARNING: degraded, read-only; {text}"));
    }
}
