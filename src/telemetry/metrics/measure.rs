//! What a pass can bring about, as values, and the words by which that is told.

/// A closed set of words for a label.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$what])* $variant,)+ }

        impl $name {
            pub(super) const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            pub(super) const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// Which way an edge turns.
    Edge {
        /// Inactive to active.
        Open = "open",
        /// Active to inactive.
        Close = "close",
    }
}

words! {
    /// How a machine went back.
    Path {
        /// Grace, drain, deletion.
        Graceful = "graceful",
        /// At once.
        Eject = "eject",
    }
}

words! {
    /// How the emptying of a Node ended.
    DrainEnd {
        /// No pod was left to wait for.
        Success = "success",
        /// Its limit was over before.
        Timeout = "timeout",
        /// An eject came in between.
        Ejected = "ejected",
    }
}

words! {
    /// How an eject ended.
    EjectEnd {
        /// Gone by the promised instant.
        Success = "success",
        /// Gone later than that.
        Timeout = "timeout",
        /// Gone while the workload cluster could not be reached: its pods were not told.
        Error = "error",
    }
}

words! {
    /// What an owner's reclaim has reached, as far as the controller sees it.
    Stage {
        /// From the request on the Node to the pass that saw it.
        Observe = "observe",
        /// From the request to the DELETE of the Machine.
        Delete = "delete",
        /// From the request until nothing of the machine was left.
        Gone = "gone",
    }
}

words! {
    /// What kind of thing went wrong. The predecessor's words, without those that nothing here can be.
    Fault {
        /// An API server refused a call or broke it off.
        KubeApi = "kube_api",
        /// What was to be changed was not there.
        NotFound = "not_found",
        /// A kubeconfig that is missing or refused.
        InvalidConfig = "invalid_config",
        /// A schedule that cannot be read.
        Schedule = "schedule",
        /// Cluster API does not do what was asked of it.
        Capi = "capi",
        /// A Cluster or kind that is not there, or not allowed, or a name that is taken.
        ReferenceValidation = "reference_validation",
        /// Any other fault of a spec.
        Validation = "validation",
        /// No answer in time.
        Timeout = "timeout",
        /// A mistake of ours.
        Other = "other",
    }
}

/// Something that a pass brought about. Spans in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// The kill switch began to rule an object.
    KillSwitch,
    /// A Node was emptied, or not.
    Drain(DrainEnd),
    /// An object that is being deleted is later than was promised.
    FinalizerTimeout,
    /// An eject was over.
    Eject(EjectEnd, f64),
    /// An owner asked for her machine.
    Reclaim,
    /// For the third time in ten minutes, or more.
    RapidReclaim,
    /// From an edge to what was done about it.
    EdgeLag(Edge, f64),
    /// From an edge to a machine that was ready.
    Ready(f64),
    /// From the start of a leaving to its end.
    HandBack(Path, f64),
    /// From an owner's request on.
    ReclaimStage(Stage, f64),
    /// Something went wrong.
    Fault(Fault),
}
