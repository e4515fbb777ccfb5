//! Rules: which files state releases, and how.

use ledger_adapters::names::Names;
use ledger_domain::{EnvironmentName, ServiceName, TargetName};

use crate::document::Format;
use crate::field::FieldPath;
use crate::pattern::{Captures, PathPattern};
use crate::pin::ValueForm;

/// Files that state releases.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// The files.
    pub pattern: PathPattern,
    /// The values in them.
    pub extraction: Extraction,
    /// Their format; by the extension of each file if it is `None`.
    pub format: Option<Format>,
    /// The names of the ledger for those in the repository, and defaults for parts of the lane that a path does not
    /// state.
    pub names: Names,
}

/// The values of a file that state releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extraction {
    /// A field. Where it is missing, nothing runs.
    Field {
        /// The place of the field.
        field: FieldPath,
        /// The form of its value.
        form: ValueForm,
    },
    /// The `images` of a Kustomization. If the path states no service, each image is a service by its name.
    Kustomize {
        /// The name of the image, if there are several; else the image whose name ends with that of the service, or the
        /// only one.
        image: Option<String>,
    },
    /// `image.tag` in the values of a Helm chart, with `image.digest` if they state it.
    Helm,
    /// `spec.source.targetRevision` of Argo CD Applications, or that of the one of `spec.sources` that is deployed. If
    /// the path states no service, it is the name of the Application.
    ArgoCd,
    /// `spec.values.image.tag` of Flux `HelmRelease`s with the version of the chart, or this version alone. If the path
    /// states no service, it is the name of the `HelmRelease`.
    Flux,
}

impl Extraction {
    /// Returns the part of an event's identity that distinguishes the values in a file.
    pub(crate) fn field(&self) -> &str {
        match self {
            Self::Field { field, .. } => field.as_str(),
            Self::Kustomize { .. } => "kustomize",
            Self::Helm => "helm",
            Self::ArgoCd => "argocd",
            Self::Flux => "flux",
        }
    }
}

/// The parts of a lane that the path of a file states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathLane {
    pub environment: EnvironmentName,
    pub service: Option<ServiceName>,
    pub target: Option<TargetName>,
}

impl Rule {
    /// Returns the lane, or the part of it, that captures state.
    ///
    /// # Errors
    /// A name is not valid and not mapped, or there is no environment.
    pub(crate) fn lane(&self, captures: &Captures) -> Result<PathLane, String> {
        let names = &self.names;
        let environment =
            names.environment(captures.environment.as_deref()).map_err(|error| error.to_string())?;
        let target = names.target(captures.target.as_deref()).map_err(|error| error.to_string())?;
        let service = match &captures.service {
            Some(service) => Some(names.service(Some(service)).map_err(|error| error.to_string())?),
            None => None,
        };
        Ok(PathLane { environment, service, target })
    }

    /// Returns the service of a file whose path states none, for the name that the file states.
    ///
    /// # Errors
    /// There is no name and no default, or the name is not valid and not mapped.
    pub(crate) fn service(&self, stated: Option<&str>) -> Result<ServiceName, String> {
        self.names.service(stated).map_err(|error| error.to_string())
    }
}
