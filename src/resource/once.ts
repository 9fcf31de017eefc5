// Request ids: the same id has the same effect once and the same answer (AIP-155). Answers are kept in the store together with the
// change that they answer, so that neither is ever there without the other.

import { createHash } from 'node:crypto';
import { invalidFields, TaplaneError } from '../errors.ts';
import type { Replay } from './store.ts';

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
  toJSON(message: T): unknown;
  decode(bytes: Uint8Array): T;
}

export interface Remembered {
  recall(requestId: string): { fingerprint: string; answer: Uint8Array } | undefined;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export class Once {
  readonly #store: Remembered;
  readonly #underWay = new Map<string, { fingerprint: string; answer: Promise<unknown> }>();

  constructor(store: Remembered) {
    this.#store = store;
  }

  /**
   * Runs `operation` unless this request id was answered before or is being worked on. `operation` gets `replay`, which makes
   * what has to be committed along with its change.
   */
  run<Q extends { requestId: string; validateOnly: boolean }, A>(
    method: string,
    request: Q,
    requestCodec: Codec<Q>,
    answerCodec: Codec<A>,
    operation: (replay: (answer: A) => Replay | undefined) => Promise<A>,
  ): Promise<A> {
    const { requestId } = request;
    if (requestId === '' || request.validateOnly) return operation(() => undefined);
    if (!UUID.test(requestId)) return Promise.reject(invalidFields([{ field: 'request_id', description: 'must be a UUID' }]));
    const fingerprint = createHash('sha256')
      .update(method)
      .update(canonical(requestCodec.toJSON(request)))
      .digest('base64');
    const known = this.#underWay.get(requestId) ?? this.#store.recall(requestId);
    if (known !== undefined) {
      if (known.fingerprint !== fingerprint) {
        const description = 'was used before for another request; take a new one for each request';
        return Promise.reject(
          new TaplaneError('INVALID_ARGUMENT', 'REQUEST_ID_REUSED', `request_id: ${description}`, {
            fields: [{ field: 'request_id', description }],
          }),
        );
      }
      return known.answer instanceof Uint8Array ? Promise.resolve(answerCodec.decode(known.answer)) : (known.answer as Promise<A>);
    }
    const answer = operation((message) => ({ requestId, fingerprint, answer: answerCodec.encode(message).finish() }));
    this.#underWay.set(requestId, { fingerprint, answer });
    const forget = (): void => {
      this.#underWay.delete(requestId);
    };
    answer.then(forget, forget);
    return answer;
  }
}

/** JSON with sorted keys: a client may send the entries of a map in another order when it tries again. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
