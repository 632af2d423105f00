pub struct FaultProxy;
