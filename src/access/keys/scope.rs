//! What a key may open. Must not know URLs: `http` has that table.

/// One thing that a key may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// MCP: tools, prompts, resources.
    Mcp,
    /// The operations endpoints, to read.
    OpsRead,
    /// Everything, and to change it.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mcp, Self::OpsRead, Self::Admin];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::OpsRead => "ops:read",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Mcp => 1,
            Self::OpsRead => 2,
            Self::Admin => 4,
        }
    }
}

/// All that a key may open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ADMIN: Self = Self(Scope::Admin.bit());
    /// What a server without keys opens to everybody.
    pub const OPEN: Self = Self(Scope::Mcp.bit() | Scope::OpsRead.bit());

    /// These.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }

    /// Reads words.
    ///
    /// # Errors
    /// A sentence that names the word that is none.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let scope = |word: &str| {
            Scope::ALL.into_iter().find(|scope| scope.name() == word).ok_or_else(|| {
                format!("{word:?} is no scope; use {}", Scope::ALL.map(Scope::name).join(", "))
            })
        };
        Ok(Self::of(words.into_iter().map(scope).collect::<Result<Vec<_>, _>>()?))
    }

    /// Whether it opens that; `admin` opens all.
    pub const fn holds(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// The words for them.
    pub fn names(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| self.0 & scope.bit() != 0).map(Scope::name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_opens_all_and_the_others_themselves() {
        let some = Scopes::parse(["ops:read", "mcp"]).unwrap();
        assert!(some.holds(Scope::Mcp) && some.holds(Scope::OpsRead) && !some.holds(Scope::Admin));
        assert!(Scope::ALL.into_iter().all(|scope| Scopes::ADMIN.holds(scope)));
        assert_eq!(some.names(), ["mcp", "ops:read"]);
        assert!(Scopes::parse(["mpc"]).unwrap_err().contains("ops:read"));
        assert!(!Scopes::default().holds(Scope::Mcp));
    }
}
