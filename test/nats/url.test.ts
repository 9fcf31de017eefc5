import { describe, expect, test } from 'vitest';
import { parseNatsUrl, redactNats } from '../../src/nats/url.ts';

describe('NATS address', () => {
  test.each([
    ['nats://h', { servers: ['h:4222'], tls: false, shown: 'nats://h:4222' }],
    ['nats://h:5222/', { servers: ['h:5222'], tls: false, shown: 'nats://h:5222' }],
    ['tls://[::1]:1', { servers: ['[::1]:1'], tls: true, shown: 'tls://[::1]:1' }],
    ['nats://u:p%40ss@h', { servers: ['h:4222'], user: 'u', pass: 'p@ss', tls: false, shown: 'nats://h:4222' }],
    ['nats://t0ken@h', { servers: ['h:4222'], token: 't0ken', tls: false, shown: 'nats://h:4222' }],
    ['nats://u:p@a, nats://b:9', { servers: ['a:4222', 'b:9'], user: 'u', pass: 'p', tls: false, shown: 'nats://a:4222,nats://b:9' }],
  ])('%s', (text, wanted) => expect(parseNatsUrl(text)).toEqual(wanted));

  test.each([
    '',
    'h:4222',
    'http://h',
    'ws://h',
    'nats://',
    'nats://s3cret:s3cret@',
    'nats://u:s3cret@h/x',
    'nats://u:s3cret@a,nats://u:s3cret@b',
    'nats://u:%zzs3cret@h',
    'nats://u:s3cret@h:99999',
    'nats://:s3cret@h',
  ])('refuses %j and does not repeat it', (text) => {
    expect(() => parseNatsUrl(text)).toThrow();
    try {
      parseNatsUrl(text);
    } catch (error) {
      expect(String(error)).not.toContain('s3cret');
    }
  });

  test.each([
    ['off', 'off'],
    ['nats://u:p@h:1', 'nats://h:1'],
    ['nats://u:p@h,tls://v:q@i', 'nats://h,tls://i'],
    ['u:p@h', 'h'],
    ['nats://u:a/b,c@h', 'nats://h'],
    ['nats://u:p@p@h', 'nats://h'],
  ])('redacts %s', (text, wanted) => expect(redactNats(text)).toBe(wanted));
});
