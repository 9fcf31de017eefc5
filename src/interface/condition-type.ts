// What is told of interfaces and of the node in conditions. Pure.

/** Of an interface: Ready, Drifted, Contended, CarrierKept, Responding, Mirroring; of the node: Ready and the rest. */
export type ConditionType =
  | 'Ready'
  | 'Drifted'
  | 'Contended'
  | 'CarrierKept'
  | 'Responding'
  | 'Mirroring'
  | 'Metering'
  | 'StateIntact'
  | 'KernelWatch'
  | 'UnknownDevices';
