// The fields of a spec that an update mask may name. Pure.

import { InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import { type SpecFields, specFields } from '../resource/update-mask.ts';

export const SPEC_FIELDS: SpecFields<InterfaceSpec> = specFields(InterfaceSpec.fromPartial({}), [
  'mtu',
  'txQueueLength',
  'flowMetering',
  'packetMirror',
]);
