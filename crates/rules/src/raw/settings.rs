//! Switches of an environment.

use clips_sys as c;

use super::Env;
use crate::engine::Settings;

impl Env {
    pub(crate) fn settings(&mut self) -> Settings {
        // SAFETY: reads fields.
        unsafe {
            Settings {
                fact_duplication: c::GetFactDuplication(self.env),
                reset_globals: c::GetResetGlobals(self.env),
                dynamic_constraint_checking: c::GetDynamicConstraintChecking(self.env),
                sequence_operator_recognition: c::GetSequenceOperatorRecognition(self.env),
                class_defaults_convenience: c::GetClassDefaultsMode(self.env)
                    == c::ClassDefaultsMode_CONVENIENCE_MODE,
            }
        }
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) {
        let mode = if settings.class_defaults_convenience {
            c::ClassDefaultsMode_CONVENIENCE_MODE
        } else {
            c::ClassDefaultsMode_CONSERVATION_MODE
        };
        // SAFETY: sets fields.
        unsafe {
            c::SetFactDuplication(self.env, settings.fact_duplication);
            c::SetResetGlobals(self.env, settings.reset_globals);
            c::SetDynamicConstraintChecking(self.env, settings.dynamic_constraint_checking);
            c::SetSequenceOperatorRecognition(self.env, settings.sequence_operator_recognition);
            c::SetClassDefaultsMode(self.env, mode);
        }
    }

    pub(crate) fn memory_requests(&self) -> usize {
        // SAFETY: reads a counter.
        usize::try_from(unsafe { c::MemRequests(self.env) }).unwrap_or(0)
    }
}
