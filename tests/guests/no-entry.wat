;; A component that is neither a command nor a server.
(component
  (core module $program (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))
  (core instance $instance (instantiate $program))
  (func $add (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $instance "add")))
  (instance $entry (export "add" (func $add)))
  (export "example:sums/adder@1.0.0" (instance $entry)))
