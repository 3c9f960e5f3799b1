;;; A buyer who goes up step by step, and never above its limit. Its other half is seller.clp.
;;;
;;; In:  a message `buy` with the seller's name.
;;; Out: to the seller messages `offer`; at the end a tuple [deal, seller, price] or
;;;      [no-deal, seller, the price that was too high] in the workspace `deals`.

(defglobal
  ?*first* = 40.0    ; the first offer
  ?*limit* = 80.0    ; not for more
  ?*step* = 1.2)     ; from one offer to the next

(deftemplate counter (slot price (type NUMBER)) (slot from) (slot ask))
(deftemplate sold (slot price (type NUMBER)) (slot from) (slot ask))
(deftemplate gone (slot from) (slot ask))

(deffunction bid (?seller ?price)
  (assert (offered ?price))
  (tell ?seller offer (map-of price ?price from (agent-name))))

(defrule begin
  (message (kind buy) (body ?seller))
  (not (offered ?))
  =>
  (bid ?seller ?*first*))

;;; The next offer would be higher anyway: take it.
(defrule take-it
  ?counter <- (counter (price ?price) (from ?seller))
  ?offered <- (offered ?last)
  (test (<= ?price (min ?*limit* (* ?last ?*step*))))
  =>
  (retract ?counter ?offered)
  (bid ?seller ?price))

(defrule go-up
  ?counter <- (counter (price ?price) (from ?seller))
  ?offered <- (offered ?last)
  (test (and (> ?price (min ?*limit* (* ?last ?*step*))) (< ?last ?*limit*)))
  =>
  (retract ?counter ?offered)
  (bid ?seller (min ?*limit* (* ?last ?*step*))))

(defrule leave
  ?counter <- (counter (price ?price) (from ?seller))
  ?offered <- (offered ?last)
  (test (and (> ?price ?*limit*) (>= ?last ?*limit*)))
  =>
  (retract ?counter ?offered)
  (out deals no-deal ?seller ?price))

(defrule done
  ?sold <- (sold (price ?price) (from ?seller))
  =>
  (retract ?sold)
  (out deals deal ?seller ?price))

(defrule missed
  ?gone <- (gone (from ?seller))
  =>
  (retract ?gone)
  (out deals no-deal ?seller nil))
