//! Describes itself with an empty name and version.

mediation_guests::described!("", "", Vec::new());
