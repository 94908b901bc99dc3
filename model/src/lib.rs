//! Models of Treehold's two protocols with many hands: collection beside writers, and pushing to a remote that answers late or not
//! at all. A checker takes their steps in every order; what the code promises must hold in every state.

pub mod bits;
pub mod check;
pub mod collection;
pub mod push;
