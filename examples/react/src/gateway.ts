// The two hooks that a React page needs: a connection, and a channel of it.
import { Centrifuge, type PublicationContext, State } from 'centrifuge'
import { useEffect, useState } from 'react'

const ADDRESS = `${location.origin.replace('http', 'ws')}/connection/websocket`

/** A connection that lives as long as the component. `data` is for `on_connect`; give the same object each time. */
export function useConnection(data: unknown) {
  const [centrifuge, setCentrifuge] = useState<Centrifuge | null>(null)
  const [state, setState] = useState(State.Connecting)

  useEffect(() => {
    const made = new Centrifuge(ADDRESS, { data })
    made.on('state', ({ newState }) => setState(newState))
    made.connect()
    setCentrifuge(made)
    return () => made.disconnect()
  }, [data])

  return { centrifuge, state }
}

/** What a channel keeps, what comes, and who is there. Another `name` is another subscription. */
export function useChannel<T>(centrifuge: Centrifuge | null, name: string) {
  const [publications, setPublications] = useState<T[]>([])
  const [people, setPeople] = useState<Record<string, string>>({})

  useEffect(() => {
    if (!centrifuge) return
    const subscription = centrifuge.newSubscription(name)
    subscription.on('publication', ({ data }: PublicationContext) => setPublications((all) => [...all, data as T]))
    subscription.on('join', ({ info }) => setPeople((all) => ({ ...all, [info.client]: info.user })))
    subscription.on('leave', ({ info }) => setPeople(({ [info.client]: _gone, ...others }) => others))
    subscription.on('subscribed', async ({ wasRecovering, recovered }) => {
      if (wasRecovering && !recovered) setPublications([]) // away for too long: all that is kept comes again
      try {
        const { clients } = await subscription.presence()
        setPeople(Object.fromEntries(Object.values(clients).map(({ client, user }) => [client, user])))
      } catch {
        // The connection went while it was asked: it is asked again once subscribed.
      }
    })
    subscription.subscribe()
    return () => {
      centrifuge.removeSubscription(subscription)
      setPublications([])
      setPeople({})
    }
  }, [centrifuge, name])

  return { publications, people: [...new Set(Object.values(people))].sort() }
}
