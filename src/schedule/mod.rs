//! Civil time: windows and exceptions in, instants out.
