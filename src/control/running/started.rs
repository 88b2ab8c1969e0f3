//! What of a configuration is in force for as long as the process lives, whatever is written later. Does
//! not know why it cannot change.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::config::Plan;
use crate::config::plan::{AdminPlan, UpgradePlan};
use crate::model::settings::{LogFormat, Metrics};

/// As it was when the process began.
#[derive(Debug)]
pub(super) struct Started {
    workers: Option<NonZeroUsize>,
    admin: Option<AdminPlan>,
    log_format: LogFormat,
    state_dir: Option<PathBuf>,
    upgrade: UpgradePlan,
    metrics: Metrics,
}

impl Started {
    /// What `plan`, with which the process begins, has of it.
    pub(super) fn with(plan: &Plan) -> Self {
        Self {
            workers: plan.workers,
            admin: plan.admin.clone(),
            log_format: plan.log.format,
            state_dir: plan.state_dir.clone(),
            upgrade: plan.upgrade.clone(),
            metrics: plan.metrics.clone(),
        }
    }

    /// The keys under which `plan` has something else.
    pub(super) fn differing(&self, plan: &Plan) -> Vec<&'static str> {
        let rows = [
            ("workers", self.workers != plan.workers),
            ("admin", self.admin.as_ref().map(AdminPlan::place) != plan.admin.as_ref().map(AdminPlan::place)),
            ("log.format", self.log_format != plan.log.format),
            ("state_dir", self.state_dir != plan.state_dir),
            ("upgrade", self.upgrade != plan.upgrade),
            ("metrics", self.metrics != plan.metrics),
        ];
        rows.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
