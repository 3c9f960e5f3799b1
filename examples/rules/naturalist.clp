;;; A naturalist: names the species of penguins that others have seen and measured.
;;;
;;; In:  tuples ["sighting", id, island, bill-length, bill-depth, flipper-length, mass, sex, year] in
;;;      the workspace `field`; what was not measured is null.
;;; Out: tuples ["verdict", id, species, probability, trees] in the workspace `verdicts`; and
;;;      ["look-again", id, species, probability] for those of which the forest is not sure.
;;;
;;; A subscription brings a tuple at least once: again when its store, seen on its way, is decided. So
;;; the naturalist remembers whom it has met.
;;;
;;; The forest is the model `penguins` of the mesh, as it is when a sighting comes: one that is
;;; trained anew under this name needs no restart.

(defglobal ?*sure-from* = 0.8)

(deftemplate sighting
  (slot id) (slot island) (slot bill-length) (slot bill-depth) (slot flipper-length) (slot mass)
  (slot sex) (slot year))

;;; Sightings that were heard of.
(deftemplate met (slot id))

;;; What the forest has been asked, and about whom.
(deftemplate asked (slot request) (slot id))

(defrule listen
  =>
  (subscribe field "sighting" :any :any :any :any :any :any :any :any))

(defrule ask-the-forest
  ?seen <- (sighting (id ?id) (island ?island) (bill-length ?length) (bill-depth ?depth)
                     (flipper-length ?flipper) (mass ?mass) (sex ?sex) (year ?year))
  (not (met (id ?id)))
  =>
  (retract ?seen)
  (assert (met (id ?id)))
  (assert (asked (id ?id)
    (request (forest-predict penguins ?island ?length ?depth ?flipper ?mass ?sex ?year)))))

(defrule met-before
  ?seen <- (sighting (id ?id))
  (met (id ?id))
  =>
  (retract ?seen))

(defrule tell
  ?asked <- (asked (request ?request) (id ?id))
  (answer (request ?request) (status ok) (value $?told))
  =>
  (retract ?asked)
  (bind ?species (map-get ?told class))
  (bind ?sure (map-get ?told probabilities ?species))
  (out verdicts "verdict" ?id ?species ?sure (map-get ?told trees))
  (if (< ?sure ?*sure-from*) then
    (out verdicts "look-again" ?id ?species ?sure)))

(defrule cannot-tell
  ?asked <- (asked (request ?request) (id ?id))
  (answer (request ?request) (status failed) (value ?reason))
  =>
  (retract ?asked)
  (log warn "nothing can be said of sighting " ?id ": " ?reason))
