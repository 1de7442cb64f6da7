//! Floor 1: failures -> delay.
